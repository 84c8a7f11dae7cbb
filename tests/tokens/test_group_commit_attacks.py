"""One slow refresh or one held lock does not delay the other refreshes of its group."""

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from support.defaults import PASSWORD, START, Build, same

from issuer.administration.clients import register_client
from issuer.clients.assertion import ASSERTION_TYPE
from issuer.clients.client import FIRST_PARTY_ID
from issuer.database import sqlite_file
from issuer.database.errors import DatabaseUnavailable
from issuer.digests import digest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import AuthMethod, OAuthRequest
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.tokens.group_commit import GroupCommit

KEY = ec.generate_private_key(ec.SECP256R1())
LOCK_SECONDS = 0.3
PEOPLE = 10
MOST_PASSED_BY = 1000
"""Refreshes answered while another writer waits: it tries to get the lock every tenth of a second."""


def logged_in(issuer: Issuer, people: int) -> list[str]:
    """Return a refresh token for each of so many users."""
    issuer.keys.node.refresh()
    issued = []
    for name in (f"person{number}" for number in range(people)):
        issuer.accounts.registration.register(name, PASSWORD, Origin(), START)
        credentials = {"grant_type": "password", "username": name, "password": PASSWORD}
        issued.append(issuer.tokens.pipeline.login(credentials, Origin(), START).refresh_token or "")
    return issued


async def refreshed(
    issuer: Issuer,
    group_commit: GroupCommit,
    token: str,
    then: Callable[[UnsignedTokenResponse], UnsignedTokenResponse],
) -> str:
    """Return the successor of a refresh token."""
    form = {"grant_type": "refresh_token", "client_id": FIRST_PARTY_ID, "refresh_token": token}
    decide = partial(issuer.tokens.pipeline.decide, OAuthRequest(form), Origin(), START)
    alone = partial(issuer.tokens.pipeline.grant, OAuthRequest(form), Origin(), START)
    return (await group_commit.run(digest(token), decide, alone, then)).refresh_token or ""


def test_refreshes_wait_for_a_held_lock_together_and_not_one_after_another(
    made: Build, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "WAIT_SECONDS", LOCK_SECONDS)
    issuer = made(settings)
    tokens = logged_in(issuer, PEOPLE)
    waits: list[str] = []
    issuer.database.took = lambda kind, _seconds: waits.append(kind)

    async def run() -> list[str | BaseException]:
        asked = (refreshed(issuer, issuer.tokens.group_commit, token, same) for token in tokens)
        return await asyncio.gather(*asked, return_exceptions=True)

    with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        errors = asyncio.run(run())
    assert all(isinstance(error, DatabaseUnavailable) for error in errors)
    assert waits.count("write") < 3, f"{PEOPLE} were answered after {waits}"


class SlowKeys(NamedTuple):
    """The URL of a key set whose server never answers during the test, and whether it was requested."""

    url: str
    asked: threading.Event


@pytest.fixture
def slow_keys() -> Iterator[SlowKeys]:
    asked, over = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            over.wait(60)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SlowKeys(f"http://127.0.0.1:{server.server_address[1]}/jwks", asked)
    over.set()
    server.shutdown()
    server.server_close()


def test_a_client_whose_keys_are_slow_to_fetch_delays_no_other_refresh_and_no_writer(
    web: TestClient, issuer: Issuer, alice: str, slow_keys: SlowKeys, tmp_path: Path
) -> None:
    assert alice
    client, _ = register_client(
        issuer.clients.store,
        "slow",
        AuthMethod.PRIVATE_KEY_JWT,
        frozenset({"items:read"}),
        (),
        START,
        jwks_uri=slow_keys.url,
    )
    # Not signed by the client: anyone who knows its id can send it.
    now = int(START.timestamp())
    claims = {"iss": client.id, "sub": client.id, "aud": "x", "exp": now + 60, "iat": now, "jti": "1"}
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "anything",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode(claims, KEY, "ES256", headers={"kid": "unknown"}),
    }
    hostile = threading.Thread(target=lambda: web.post("/oauth2/token", data=form))
    hostile.start()
    assert slow_keys.asked.wait(60)
    with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None, timeout=0)) as other:

        def could_write() -> bool:
            with suppress(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                return True
            return False

        others_could_write = any(could_write() for _ in iter(hostile.is_alive, False))
    hostile.join()
    assert others_could_write


@pytest.mark.parametrize("with_a_second_core", [False, True])
def test_other_writers_are_served_during_continuous_refreshes(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_a_second_core: bool
) -> None:
    if with_a_second_core:
        issuer.tokens.group_commit.use_second_core()
    monkeypatch.setattr("issuer.tokens.refresh.ROTATION_BURST", 10**9)
    tokens = logged_in(issuer, PEOPLE)
    signed = itertools.count()
    passed_by: list[int] = []
    over = threading.Event()

    def sign(granted: UnsignedTokenResponse) -> UnsignedTokenResponse:
        next(signed)
        time.sleep(0.0002)
        return granted

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None, timeout=60)) as other:
            for _ in range(3):
                before = next(signed)
                with suppress(sqlite3.OperationalError):  # it waited in vain: that counts, too
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("COMMIT")
                passed_by.append(next(signed) - before)
                time.sleep(0.1)
        over.set()

    async def run() -> None:
        async def user(token: str) -> None:
            while not over.is_set():
                used, token = token, await refreshed(issuer, issuer.tokens.group_commit, token, sign)
                assert token != used

        await asyncio.gather(*(user(token) for token in tokens))

    thread = threading.Thread(target=write)
    thread.start()
    asyncio.run(run())
    thread.join()
    assert max(passed_by) < MOST_PASSED_BY
