"""What ends browser sessions, with the refresh families and notices that belong to them, on SQLite and PostgreSQL."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from support.authorization import app
from support.stores import MONTH, NOW, family_with_token, signed_in

from issuer.accounts.user import VerifiedPassword
from issuer.administration.account_deletion import delete_account
from issuer.clients.store import ClientStore
from issuer.database import rows
from issuer.database.database import Database
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.session import BrowserSession
from issuer.sessions.store import BrowserSessionStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, stored
from issuer.tokens.refresh_text import new_refresh_token

CLIENT = app(backchannel_logout_uri="https://app.example/backchannel")

End = Callable[[Database, FamilyStore, BrowserSession], object]

WAYS: dict[str, End] = {
    "signing out": lambda _, store, session: store.end_browser_session(session.id, NOW),
    "signing out everywhere": lambda _, store, session: store.end_all(NOW, session.user_id),
    "ending all sessions of all users": lambda _, store, _session: store.end_all(NOW),
    "another password": lambda _, store, session: store.set_password_hash(session.user_id, "b", NOW),
    "disabling": lambda _, store, session: store.disable(session.user_id, NOW),
    "ending other sessions": lambda _, store, session: store.end_others(session.user_id, "x", NOW),
    "deletion": lambda database, _, session: delete_account(
        database, session.user_id, VerifiedPassword("a hash"), NOW
    ),
}


@pytest.fixture
def database(each_database: Database) -> Database:
    ClientStore(each_database).add(CLIENT)
    return each_database


def at_client(database: Database) -> tuple[BrowserSessionStore, BrowserSession]:
    """Return a session of a new user that the client knows, and its store."""
    sessions, session = signed_in(database)
    sessions.sid(session, CLIENT.id)
    return sessions, session


def start(database: Database, session: BrowserSession) -> Family | None:
    """Start a family that ends with a session; None if that has ended."""
    template, _ = family_with_token(database)
    family = replace(template, id=str(uuid.uuid4()), user_id=session.user_id, browser_session=session.id)
    token = stored(new_refresh_token(family.id), family, NOW, MONTH)
    return family if FamilyStore(database).start(family, token) else None


@pytest.mark.parametrize("way", WAYS)
def test_a_session_ends_with_its_families_and_its_clients_are_told(database: Database, way: str) -> None:
    store, notices = FamilyStore(database), LogoutNoticeStore(database)
    sessions, session = at_client(database)
    _, other = at_client(database)
    family, others_family = start(database, session), start(database, other)
    assert family
    assert others_family
    WAYS[way](database, store, session)
    assert sessions.active(session.user_id, NOW)[0] == []
    assert not store.is_active(family.id, NOW)
    is_for_all = way == "ending all sessions of all users"
    assert store.is_active(others_family.id, NOW) is not is_for_all
    told = {notice.user_id for notice in notices.claim(NOW, 9)[0]}
    assert told == {session.user_id, other.user_id} if is_for_all else {session.user_id}
    assert start(database, session) is None


def test_a_family_that_outlives_the_browser_does_not_end_with_its_session(database: Database) -> None:
    store = FamilyStore(database)
    _, session = at_client(database)
    family, _ = family_with_token(database)
    store.end_browser_session(session.id, NOW)
    assert store.is_active(family.id, NOW)


def test_no_family_starts_with_a_session_that_has_expired(database: Database) -> None:
    _, session = at_client(database)
    past = replace(session, id="no such session")
    assert start(database, past) is None


def test_more_sessions_end_than_one_statement_may_name(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROWS_MOST", 2)
    store, notices, count = FamilyStore(database), LogoutNoticeStore(database), 5
    for _ in range(count):
        at_client(database)
    assert store.count_active(NOW) == count
    assert store.end_all(NOW) == count
    assert store.count_active(NOW) == 0
    assert len(notices.claim(NOW, 2 * count)[0]) == count


def test_changes_that_end_the_same_sessions_do_not_wait_for_each_other_forever(database: Database) -> None:
    store = FamilyStore(database)
    ways = ("signing out", "signing out everywhere", "another password", "ending other sessions")
    with ThreadPoolExecutor(len(ways)) as pool:
        for _ in range(5):
            _, session = at_client(database)
            for _ in range(3):
                start(database, session)
            ended = [pool.submit(WAYS[way], database, store, session) for way in ways]
            for each in ended:
                each.result()
    assert store.count_active(NOW) == 5 * 3  # the templates of the families


def test_a_family_never_outlives_a_session_that_ends_at_the_same_time(database: Database) -> None:
    store = FamilyStore(database)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            _, session = at_client(database)
            starting = pool.submit(start, database, session)
            pool.submit(store.end_browser_session, session.id, NOW).result()
            family = starting.result()
            assert family is None or not store.is_active(family.id, NOW)
