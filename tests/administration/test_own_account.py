"""Deletion of an account as stored, on SQLite and PostgreSQL: nothing personal remains."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select
from support.authorization import APP, SCOPE, a_request, app
from support.stores import NOW, family_with_token

from issuer.accounts.store import AccountStore
from issuer.accounts.user import VerifiedPassword
from issuer.administration.account_deletion import PERSONAL, delete_account
from issuer.audit.event import Event, EventAction, Recorded, by_user
from issuer.audit.event_search import EventSearch, Filters
from issuer.authorize.code import code_for
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent_store import Consents
from issuer.clients.store import ClientStore
from issuer.database.database import Database, metadata
from issuer.database.subjects import subjects
from issuer.digests import digest
from issuer.oauth import AuthMethod
from issuer.sessions.store import BrowserSessionStore, SessionDeleted
from issuer.throttling.origin import Origin
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.session_events import SessionEvent

HASH = VerifiedPassword("a hash")
LOGOUT = "https://app.example/logout"
KEPT = {"subjects", "account_events", "logout_notices"}
"""Tables that may still name a deleted account by its id."""


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def user_with_everything(database: Database) -> str:
    """The id of a user of whom every kind of row is stored."""
    family, _ = family_with_token(database)
    user_id = family.user_id
    sessions = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    started = sessions.start(user_id, None, "1", ("pwd",), Origin(), NOW)
    assert started
    sid = sessions.sid(started[0], APP.id)
    code = code_for(a_request(), started[0], SCOPE, sid, digest(user_id), NOW)
    assert CodeStore(database).add(code, None, NOW)
    assert Consents(database, FamilyStore(database)).give(user_id, a_request(), SCOPE, NOW, NOW)
    SessionEventStore(database).record(SessionEvent.REUSED, family, NOW)
    return user_id


def tables_that_name(database: Database, user_id: str) -> set[str]:
    found = set()
    for table in metadata.sorted_tables:
        with database.read() as connection:
            if any(user_id in repr(tuple(row)) for row in connection.execute(select(table))):
                found.add(table.name)
    return found


def test_nothing_of_a_deleted_account_remains_but_its_id(database: Database) -> None:
    ClientStore(database).add(app(backchannel_logout_uri=LOGOUT, auth_method=AuthMethod.NONE))
    mine, other = user_with_everything(database), user_with_everything(database)
    before = tables_that_name(database, other)
    assert tables_that_name(database, mine) == before
    assert before > {"users", "families", "consents", "session_events", "authorization_codes"}
    assert delete_account(database, mine, HASH, NOW)
    assert tables_that_name(database, mine) == KEPT
    assert tables_that_name(database, other) == before
    with database.read() as connection:
        assert mine in connection.scalars(select(subjects.c.id)).all()
    found, _ = EventSearch(database).newest(Filters(mine), 1)
    assert [each.event for each in found if isinstance(each, Recorded)] == [
        Event(NOW, by_user(mine), EventAction.USER_DELETED, mine)
    ]


def test_every_table_with_rows_of_users_is_deleted_from() -> None:
    of_users = {table.name for table in metadata.sorted_tables if "user_id" in table.c}
    assert of_users - {"logout_notices", "account_events"} == {table.name for table in PERSONAL}


def test_an_account_is_not_deleted_if_its_password_was_changed_meanwhile(database: Database) -> None:
    user_id = user_with_everything(database)
    FamilyStore(database).set_password_hash(user_id, "another", NOW)
    assert not delete_account(database, user_id, HASH, NOW)
    assert AccountStore(database).by_id(user_id)


def test_sessions_that_start_during_a_deletion_fail_or_are_deleted(database: Database) -> None:
    user_id = user_with_everything(database)
    sessions = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    consents = Consents(database, FamilyStore(database))
    with ThreadPoolExecutor(9) as pool:
        starts = [pool.submit(sessions.start, user_id, None, "1", ("pwd",), Origin(), NOW) for _ in range(4)]
        gives = [pool.submit(consents.give, user_id, a_request(), SCOPE, NOW, NOW) for _ in range(4)]
        deleted = pool.submit(delete_account, database, user_id, HASH, NOW)
        assert deleted.result()
        for start in starts:
            start.result()
        for give in gives:
            give.result()
    assert tables_that_name(database, user_id) <= KEPT


def test_a_request_that_is_overtaken_by_the_deletion_finds_no_session_on_any_database(
    database: Database,
) -> None:
    owner = user_with_everything(database)
    sessions = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    started = sessions.start(owner, None, "1", ("pwd",), Origin(), NOW)
    assert started
    assert delete_account(database, owner, HASH, NOW)
    with pytest.raises(SessionDeleted):
        sessions.sid(started[0], "a client that had no sid yet")
