"""After `kill -9` under load every session continues: its last token is valid and has at most one successor."""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock

import httpx2
import psycopg
import pytest
from support.postgresql import new_database
from support.servers import (
    PASSPHRASE,
    PATIENCE_SECONDS,
    Installation,
    Server,
    eventually,
    is_free,
    is_running,
)

PASSWORD = "violet otters juggle pancakes"
SESSIONS = 6
TABS = 2
"""Who refreshes one session at once."""
KILLS = 4
LOAD_SECONDS = 0.6
PAUSE_SECONDS = 0.03
OFTEN = """
from datetime import timedelta
from issuer.tokens import refresh
refresh.ROTATION_INTERVAL = timedelta(milliseconds=250)
"""
"""Sessions rotate four times a second for as long as it takes, not in five seconds: more kills hit a rotation."""


@dataclass
class Session:
    """A session, and all answers to its tabs: each refresh token with its successor, in the order of use."""

    newest: str
    successors: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def learn(self, used: str, answer: httpx2.Response) -> None:
        """Take in what was answered to `used`; a server that cannot answer now may be asked again."""
        if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            return
        with self._lock:
            if answer.status_code != httpx2.codes.OK:
                # The other tab has its successor, or asks for it: whether one does is seen by its going on.
                if "returned twice" not in answer.text:
                    self.broken.append(f"lost: {answer.status_code} {answer.text}")
                return
            successor = answer.json()["refresh_token"]
            if successor == used:  # a session rotates ten times at once, and then by and by
                return
            if self.successors.setdefault(used, successor) != successor:
                self.broken.append("a token has two successors")
            if self.newest == used:
                self.newest = successor


class Load:
    """Sessions that are refreshed over and over, each by several tabs."""

    def __init__(self, installation: Installation) -> None:
        self._url = installation.url
        answers = [installation.log_in("alice", PASSWORD) for _ in range(SESSIONS)]
        self.sessions = [Session(answer.json()["refresh_token"]) for answer in answers]
        self._over = Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep it up during the block."""
        with ThreadPoolExecutor(SESSIONS * TABS) as tabs:
            loops = [tabs.submit(self._tab, session) for session in self.sessions for _ in range(TABS)]
            try:
                yield
            finally:
                self._over.set()
        for loop in loops:
            loop.result()

    def until_all_continue(self) -> None:
        """Wait until each session got another token than it has now; fail if it cannot."""
        before = [session.newest for session in self.sessions]

        def continues() -> bool:
            self.require_unbroken()
            return all(session.newest != token for session, token in zip(self.sessions, before, strict=True))

        eventually(continues, "all sessions continue")

    def require_unbroken(self) -> None:
        """Fail if a session was lost, or split in two."""
        assert [each for session in self.sessions for each in session.broken] == []

    def _tab(self, session: Session) -> None:
        with httpx2.Client(trust_env=False, timeout=PATIENCE_SECONDS) as http:
            while not self._over.is_set() and not session.broken:
                used = session.newest
                with suppress(
                    httpx2.TransportError
                ):  # killed: ask again with the same token, as a client would
                    session.learn(used, refresh(http, self._url, used))
                time.sleep(PAUSE_SECONDS)


def refresh(http: httpx2.Client, url: str, token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
    return http.post(f"{url}/oauth2/token", data=form)


def kill_all(server: Server) -> None:
    """Kill the main process and its workers in the same moment; what was on its way to a worker may hold the port."""
    server.end()
    eventually(lambda: is_free(server.port), "the port is free")


def kill_a_worker(server: Server) -> None:
    """Kill one worker; the main process starts another."""
    victim = random.choice([pid for pid in server.worker_pids if is_running(pid)])  # noqa: S311 - any will do
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not is_running(victim), "the worker is dead")


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def kept(installation: Installation, request: pytest.FixtureRequest) -> Installation:
    """An installation on either database, with a user."""
    installation.prelude = OFTEN
    if request.param == "PostgreSQL":
        installation.settings |= {
            "ISSUER_DATABASE_URL": new_database(request.getfixturevalue("postgresql")),
            "ISSUER_KEYS": "database",
            "ISSUER_KEYS_PASSPHRASE": PASSPHRASE,
        }
    added = installation.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    assert added.code == 0, added
    return installation


def rows(installation: Installation, query: str) -> list[tuple[object, ...]]:
    url = installation.settings.get("ISSUER_DATABASE_URL")
    if url:
        with psycopg.connect(url) as connection:
            return connection.execute(query.encode()).fetchall()
    with closing(sqlite3.connect(installation.folder / "issuer.db")) as connection:
        return connection.execute(query).fetchall()


def require_one_line_each(installation: Installation) -> None:
    """Fail unless every family lives and has one token that is not used, every other being used."""
    assert rows(installation, "SELECT count(*) FROM families WHERE ended_at IS NULL") == [(SESSIONS,)]
    unused = "SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL GROUP BY family_id"
    assert rows(installation, unused) == [(1,)] * SESSIONS


def test_no_session_is_lost_or_split_by_kills_under_load(kept: Installation) -> None:
    server = kept.serve(workers=2).until_ready()
    load = Load(kept)
    blows: list[Callable[[Server], None]] = [kill_all, kill_a_worker] * KILLS
    with load.running():
        for blow in blows[:KILLS]:
            time.sleep(random.uniform(LOAD_SECONDS / 2, LOAD_SECONDS))  # noqa: S311 - another point each time
            blow(server)
            if blow is kill_all:
                server = kept.serve(workers=2).until_ready()
            load.until_all_continue()
    load.require_unbroken()
    require_one_line_each(kept)
    server.until_ready()
    for session in load.sessions:
        *_, newest = session.successors.values()
        assert newest == session.newest
        assert refresh(kept.http, kept.url, newest).status_code == httpx2.codes.OK
    require_one_line_each(kept)
