"""Owns that one job, or one lock, cannot hold up everybody whose refresh is done together with it."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from given import START, same
from sqlalchemy import text

from issuer.administration import register_client
from issuer.grants.assertion import ASSERTION_TYPE
from issuer.oauth import AuthMethod
from issuer.store import engines
from issuer.store.batches import Batches
from issuer.store.database import Database, DatabaseUnavailable
from issuer.wiring import Issuer

KEY = ec.generate_private_key(ec.SECP256R1())
LOCK_SECONDS = 0.3
JOBS = 10


@pytest.fixture
def impatient_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """One that gives up waiting for a lock after LOCK_SECONDS."""
    monkeypatch.setattr(engines, "SQLITE_WAIT_SECONDS", LOCK_SECONDS)
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    yield database
    database.close()


def test_jobs_that_meet_a_held_lock_wait_for_it_once_and_not_one_after_another(
    impatient_database: Database, tmp_path: Path
) -> None:
    batches = Batches(impatient_database)

    def keep() -> None:
        with impatient_database.write() as connection:
            connection.execute(text("DELETE FROM devices"))

    async def run() -> list[BaseException | None]:
        return await asyncio.gather(*(batches.run(keep, same) for _ in range(JOBS)), return_exceptions=True)

    with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        errors = asyncio.run(run())
        lasted = time.monotonic() - began
    batches.close()
    assert all(isinstance(error, DatabaseUnavailable) for error in errors)
    assert lasted < 3 * LOCK_SECONDS, f"{JOBS} jobs were told after {lasted:.1f} s"


@pytest.fixture
def slow_keys() -> Iterator[str]:
    """The URL of a key set whose server accepts, and never answers while the test lasts."""
    over = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            over.wait(10)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/jwks"
    over.set()
    server.shutdown()
    server.server_close()


def test_a_client_whose_keys_are_slow_to_fetch_holds_up_no_other_refresh_and_no_other_writer(
    web: TestClient, issuer: Issuer, alice: str, slow_keys: str, tmp_path: Path
) -> None:
    assert alice
    client, _ = register_client(
        issuer.clients,
        "slow",
        AuthMethod.PRIVATE_KEY_JWT,
        frozenset({"items:read"}),
        (),
        START,
        jwks_uri=slow_keys,
    )
    # Nobody signed it: whoever knows the client's id can send it.
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
    time.sleep(0.3)  # it has been taken up
    began = time.monotonic()
    with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    lasted = time.monotonic() - began
    hostile.join()
    assert lasted < 1, f"nobody could write for {lasted:.1f} s"


@pytest.mark.parametrize("with_a_second_core", [False, True])
def test_other_writers_get_their_turn_while_refreshes_never_cease(
    database: Database, tmp_path: Path, *, with_a_second_core: bool
) -> None:
    batches = Batches(database)
    if with_a_second_core:
        batches.finish_beside()
    waits: list[float] = []
    over = threading.Event()

    def refresh() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO devices VALUES (randomblob(16), '2026-01-01')"))

    def sign(done: None) -> None:
        time.sleep(0.0002)

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "issuer.db", isolation_level=None, timeout=4)) as other:
            for _ in range(3):
                began = time.monotonic()
                with suppress(sqlite3.OperationalError):  # it waited in vain: that counts, too
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("COMMIT")
                waits.append(time.monotonic() - began)
                time.sleep(0.1)
        over.set()

    async def run() -> None:
        async def user() -> None:
            while not over.is_set():
                await batches.run(refresh, sign)

        await asyncio.gather(*(user() for _ in range(100)))

    thread = threading.Thread(target=write)
    thread.start()
    asyncio.run(run())
    thread.join()
    batches.close()
    assert max(waits) < 2, f"the others waited {[round(wait, 1) for wait in waits]} s"
