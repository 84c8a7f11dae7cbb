"""Logout notices as stored: who gets one, and that one process at a time sends each, on SQLite and PostgreSQL."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.authorization import app
from support.stores import NOW, signed_in

from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.maintenance.pruning import prune
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.logout_notices import LogoutNotice
from issuer.sessions.session import BrowserSession
from issuer.tokens.family_store import FamilyStore

TOLD = app(id="told", name="Told", backchannel_logout_uri="https://app.example/backchannel")
SILENT = app(id="silent", name="Silent")
DISABLED = replace(TOLD, id="disabled", disabled_at=NOW)
UNUSED = replace(TOLD, id="unused")


@pytest.fixture
def database(each_database: Database) -> Database:
    for client in (TOLD, SILENT, DISABLED, UNUSED):
        ClientStore(each_database).add(client)
    return each_database


@pytest.fixture
def store(database: Database) -> LogoutNoticeStore:
    return LogoutNoticeStore(database)


def at_clients(database: Database, *clients: str) -> tuple[BrowserSession, dict[str, str]]:
    """Return a session of a new user, and the `sid` by which each client knows it."""
    sessions, session = signed_in(database)
    return session, {client: sessions.sid(session, client) for client in clients}


def ended(database: Database, count: int) -> None:
    for _ in range(count):
        session, _ = at_clients(database, TOLD.id)
        assert FamilyStore(database).end_browser_session(session.id, NOW)


def claimed(store: LogoutNoticeStore, now: datetime = NOW, most: int = 100) -> list[LogoutNotice]:
    notices, damaged = store.claim(now, most)
    assert damaged == []
    return notices


def ids(notices: Iterable[LogoutNotice]) -> list[str]:
    return [notice.id for notice in notices]


def test_the_clients_that_know_a_session_and_have_a_uri_get_one_notice(
    database: Database, store: LogoutNoticeStore
) -> None:
    session, sids = at_clients(database, TOLD.id, SILENT.id, DISABLED.id)
    assert store.recipients(session.id) == ["Told"]
    assert not store.is_any_due(NOW)
    for _ in range(2):
        FamilyStore(database).end_browser_session(session.id, NOW)
    (notice,) = claimed(store)
    assert (notice.client_id, notice.user_id, notice.sid) == (TOLD.id, session.user_id, sids[TOLD.id])
    assert (notice.created_at, notice.attempts) == (NOW, 1)


def test_each_notice_is_taken_by_one_of_many_processes(database: Database, store: LogoutNoticeStore) -> None:
    ended(database, 40)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: claimed(store, most=5), range(24)))
    found = [each for notices in taken for each in ids(notices)]
    assert len(found) == len(set(found)) == 40


def test_a_notice_that_was_taken_is_due_again_after_growing_waits(
    database: Database, store: LogoutNoticeStore
) -> None:
    ended(database, 1)
    now = NOW
    for attempt, seconds in enumerate((5, 30, 300, 300), start=1):
        (notice,) = claimed(store, now)
        assert notice.attempts == attempt
        wait = timedelta(seconds=seconds)
        assert claimed(store, now + wait - timedelta(milliseconds=1)) == []
        now += wait
    assert store.is_any_due(now)


def test_a_notice_that_was_taken_again_is_not_removed_by_the_process_that_had_it_before(
    database: Database, store: LogoutNoticeStore
) -> None:
    ended(database, 2)
    before = claimed(store)
    later = NOW + timedelta(seconds=5)
    (again,) = claimed(store, later, most=1)
    store.remove(before)
    store.remove([])
    assert ids(claimed(store, later + timedelta(days=1))) == [again.id]


def test_notices_that_nobody_sends_are_deleted_after_a_day(
    database: Database, store: LogoutNoticeStore
) -> None:
    ended(database, 2)
    prune(database, NOW + timedelta(hours=23))
    assert store.is_any_due(NOW)
    prune(database, NOW + timedelta(hours=25))
    assert not store.is_any_due(NOW)
