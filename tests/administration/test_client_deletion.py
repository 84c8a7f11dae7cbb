"""Deletion of clients: nothing of them is left but their ids, and sessions of others stay."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select
from support.authorization import APP, SCOPE, a_request
from support.stores import NOW, signed_in, user

from issuer.accounts.store import AccountStore
from issuer.administration.client_deletion import (
    Removed,
    disable_for_deletion,
    remove_client,
    remove_in_batches,
    remove_leftovers,
)
from issuer.audit.event import Event, EventAction, Recorded
from issuer.audit.event_search import EventSearch, Filters
from issuer.authorize.code import code_for
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent_store import Consents
from issuer.authorize.pushed import PushedRequests
from issuer.clients.store import ClientStore
from issuer.database.database import Database, metadata
from issuer.digests import digest
from issuer.errors import Refused
from issuer.oauth import UsernameTaken
from issuer.sessions.ended import end_browser_sessions_of
from issuer.sessions.session import BrowserSession
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, stored
from issuer.tokens.refresh_text import new_refresh_token

OTHER = replace(APP, id="another client")
TABLES = (
    "clients",
    "consents",
    "authorization_codes",
    "pushed_requests",
    "client_sessions",
    "logout_notices",
)
MONTH = timedelta(days=30)


def fill(database: Database) -> BrowserSession:
    """Register two clients that both have everything that a client can have, and return a browser session."""
    sessions, session = signed_in(database)
    families = FamilyStore(database)
    consents = Consents(database, families)
    for client in (APP, OTHER):
        told = replace(client, backchannel_logout_uri="https://app.example/logout")
        ClientStore(database).add(told)
        assert consents.give(session.user_id, a_request(told), SCOPE, NOW, NOW)
        sid = sessions.sid(session, client.id)
        code = code_for(a_request(told), session, SCOPE, sid, digest(client.id), NOW)
        assert CodeStore(database).add(code, None, NOW)
        PushedRequests(database).add(client.id, (("client_id", client.id),), NOW)
        start_family(database, session.user_id, client.id)
    with database.write() as connection:
        end_browser_sessions_of(connection, session.user_id, None, NOW)
    return session


def family_of(client_id: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, client_id))


def start_family(database: Database, user_id: str, client_id: str) -> Family:
    family = Family(family_of(client_id), user_id, client_id, SCOPE, ("x",), NOW, NOW + MONTH)
    token = new_refresh_token(family.id)
    assert FamilyStore(database).start(family, stored(token, family, NOW, MONTH))
    return family


def rows_of(database: Database, client_id: str) -> dict[str, int]:
    found = {}
    with database.snapshot() as connection:
        for name in TABLES:
            table = metadata.tables[name]
            column = table.c.id if name == "clients" else table.c.client_id
            found[name] = connection.scalar(
                select(func.count()).select_from(table).where(column == client_id)
            )
    return {name: count or 0 for name, count in found.items()}


def test_everything_of_a_client_is_deleted_and_its_sessions_end(each_database: Database) -> None:
    fill(each_database)
    assert set(rows_of(each_database, APP.id).values()) == {1}
    assert remove_client(each_database, APP.id, NOW) == Removed(sessions=1, users=1)
    assert set(rows_of(each_database, APP.id).values()) == {0}
    assert set(rows_of(each_database, OTHER.id).values()) == {1}
    families = FamilyStore(each_database)
    assert not families.is_active(family_of(APP.id), NOW)
    assert families.is_active(family_of(OTHER.id), NOW)
    with pytest.raises(LookupError):
        remove_client(each_database, APP.id, NOW)


def test_a_deletion_disables_the_client_first_and_then_ends_its_sessions_in_batches(
    each_database: Database,
) -> None:
    fill(each_database)
    disabled = Event(NOW, "an operator", EventAction.CLIENT_DISABLED, client_id=APP.id)
    seen = []

    def interrupt(*counts: object) -> None:
        seen.append(counts)
        if len(seen) == 2:
            raise KeyboardInterrupt

    disable_for_deletion(each_database, APP.id, disabled)
    with pytest.raises(KeyboardInterrupt):
        remove_in_batches(each_database, APP.id, NOW, interrupt)
    assert seen == [("sessions ended", 1, 1), ("users whose consent is deleted", 1, 1)]
    client = ClientStore(each_database).by_id(APP.id)
    assert client
    assert client.disabled_at == NOW
    assert not FamilyStore(each_database).is_active(family_of(APP.id), NOW)
    disable_for_deletion(each_database, APP.id, replace(disabled, at=NOW + MONTH))
    again = remove_in_batches(each_database, APP.id, NOW, lambda *_: None)
    assert again == Removed(sessions=0, users=0)
    assert rows_of(each_database, APP.id)["client_sessions"] == 0
    deleted = replace(disabled, action=EventAction.CLIENT_DELETED)
    already = Removed(sessions=2, users=3)
    assert remove_client(each_database, APP.id, NOW, deleted, already) == already
    events, _ = EventSearch(each_database).newest(Filters(client_id=APP.id), 2)
    assert [(each.event.action, each.event.detail) for each in events if isinstance(each, Recorded)] == [
        ("client disabled", None),
        ("client deleted", "sessions ended: 2"),
    ]
    assert set(rows_of(each_database, APP.id).values()) == {0}
    assert set(rows_of(each_database, OTHER.id).values()) == {1}
    with pytest.raises(LookupError):
        disable_for_deletion(each_database, APP.id, disabled)


def test_each_batch_is_found_by_its_keys_alone(database: Database) -> None:
    """By another index SQLite would read all rows of the client for each batch."""
    fill(database)
    executed: list[tuple[str, Any]] = []

    def keep(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("UPDATE", "DELETE")):
            executed.append((statement, parameters))

    event.listen(Engine, "after_cursor_execute", keep)
    try:
        remove_in_batches(database, APP.id, NOW, lambda *_: None)
    finally:
        event.remove(Engine, "after_cursor_execute", keep)
    assert len(executed) == 3
    for statement, parameters in executed:
        with database.read() as connection:
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        assert "autoindex" in str(steps)
        assert "USING INDEX ix_" not in str(steps)


def test_the_id_of_a_deleted_client_is_never_used_again(each_database: Database) -> None:
    store = ClientStore(each_database)
    store.add(APP)
    remove_client(each_database, APP.id, NOW)
    with pytest.raises(Refused, match="has the identifier"):
        store.add(APP)
    owner = replace(user(), id=APP.id)
    with pytest.raises(UsernameTaken):
        AccountStore(each_database).add(owner)


def test_what_requests_store_while_a_client_is_deleted_is_removed_afterwards(each_database: Database) -> None:
    fill(each_database)
    remove_client(each_database, APP.id, NOW)
    PushedRequests(each_database).add(APP.id, (), NOW)
    remove_leftovers(each_database, APP.id, NOW)
    assert set(rows_of(each_database, APP.id).values()) == {0}


def test_a_session_that_starts_while_its_client_is_deleted_is_ended(each_database: Database) -> None:
    """A redemption either uses its code first, and its session is ended, or finds no code."""
    families, codes = FamilyStore(each_database), CodeStore(each_database)
    ClientStore(each_database).add(APP)
    sessions, session = signed_in(each_database)
    made = []
    for number in range(8):
        sid = sessions.sid(session, APP.id)
        made.append(code_for(a_request(), session, SCOPE, sid, digest(str(number)), NOW))
        assert codes.add(made[-1], None, NOW)

    def redeem(number: int) -> str | None:
        if number == 4:
            remove_client(each_database, APP.id, NOW)
            return None
        with codes.redeeming():
            if not codes.use(made[number], NOW, "a session"):
                return None
            family = Family(str(uuid.uuid4()), session.user_id, APP.id, SCOPE, ("x",), NOW, NOW + MONTH)
            assert families.start(family, stored(new_refresh_token(family.id), family, NOW, MONTH))
        return family.id

    with ThreadPoolExecutor(8) as pool:
        started = [each for each in pool.map(redeem, range(8)) if each]
    assert not any(families.is_active(each, NOW) for each in started)
