"""Clients on PostgreSQL: statements that scale, that no limit of time interrupts, and the order of locks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event
from support.authorization import APP, SCOPE, a_request
from support.postgresql import temporary_database
from support.servers import eventually
from support.shared_database import lock_held
from support.stores import NOW, signed_in

from issuer.accounts.roles import Role, RoleStore
from issuer.accounts.store import AccountStore
from issuer.administration.account_deletion import delete_account
from issuer.administration.client_changes import void_codes_without_consent
from issuer.administration.client_deletion import Removed, remove_client, remove_in_batches
from issuer.administration.client_sessions import count_exceeding, count_sessions
from issuer.administration.permissions import set_role
from issuer.audit.event import ISSUER, Event, EventAction
from issuer.authorize.consent_store import Consents
from issuer.clients.resources import Resources
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, stored
from issuer.tokens.refresh_text import new_refresh_token

LIMIT_SECONDS = 0.2
MONTH = timedelta(days=30)


@pytest.fixture
def url(postgresql: str) -> Iterator[str]:
    with temporary_database(postgresql) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url)) as database:
        database.migrate()
        ClientStore(database).add(APP)
        yield database


def entitlements(database: Database) -> Entitlements:
    return Entitlements(Resources(database), ("https://api.example",), "https://issuer.example")


@contextmanager
def statements_of(table: str) -> Iterator[list[tuple[str, Any]]]:
    """Yield a list that gets the statements that name a table, executed in the block, with their parameters."""
    found: list[tuple[str, Any]] = []

    def keep(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if table in statement:
            found.append((statement, parameters))

    event.listen(Engine, "after_cursor_execute", keep)
    try:
        yield found
    finally:
        event.remove(Engine, "after_cursor_execute", keep)


def test_users_without_consent_are_found_by_a_join(database: Database) -> None:
    """With NOT IN, PostgreSQL reads all consents of the client for each session once they exceed its `work_mem`."""
    with statements_of("consents") as found:
        count_exceeding(database, APP, APP, entitlements(database), NOW)
        void_codes_without_consent(database, APP.id)
    assert len(found) == 2
    for statement, parameters in found:
        with database.read() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
        assert "Anti Join" in " ".join(plan)


def enlarge_role(database: Database) -> bool:
    """Add a scope to a role, which reads the users who have it."""
    roles, role, event = (
        RoleStore(database),
        Role("a role", SCOPE, NOW),
        Event(NOW, ISSUER, EventAction.ROLE_SET),
    )
    roles.set(role)
    return set_role(database, AccountStore(database), roles, replace(role, scope=SCOPE | {"more"}), event)


@pytest.mark.parametrize(
    ("count", "table"),
    [
        (lambda database: count_sessions(database, APP.id, NOW), "families"),
        (lambda database: count_exceeding(database, APP, APP, entitlements(database), NOW), "families"),
        (enlarge_role, "user_roles"),
    ],
    ids=["sessions", "sessions that hold more", "users of a role"],
)
@pytest.mark.usefixtures("database")
def test_counting_takes_as_long_as_it_needs(url: str, count: Callable[[Database], int], table: str) -> None:
    """The lock stands for a large table: statements are cancelled after a time, whatever they wait for."""
    limited = f"{url}?options=-cstatement_timeout%3D{LIMIT_SECONDS}s"
    running = (
        "SELECT max(now() - query_start) > make_interval(secs => %s) FROM pg_stat_activity WHERE query ~* %s"
    )
    with (
        closing(Database(limited)) as issuer,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url, autocommit=True) as others,
        lock_held(url, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE") as until_waiting,
    ):
        counted = pool.submit(count, issuer)
        until_waiting(1)
        asked = [LIMIT_SECONDS * 2, f"^SELECT .*{table}"]
        eventually(lambda: counted.done() or others.execute(running, asked).fetchone() == (True,), "it waits")
        assert not counted.done(), counted.exception()
    assert counted.result() == 0


def use_client(database: Database, *, consents: bool) -> str:
    """Let a new user use the client, and return the id of the account."""
    sessions, session = signed_in(database)
    families = FamilyStore(database)
    if consents:
        assert Consents(database, families).give(session.user_id, a_request(), SCOPE, NOW, NOW)
    sid = sessions.sid(session, APP.id)
    family = Family(sid, session.user_id, APP.id, SCOPE, ("x",), NOW, NOW + MONTH)
    assert families.start(family, stored(new_refresh_token(sid), family, NOW, MONTH))
    return session.user_id


@contextmanager
def rows_locked(url: str, *tables: str) -> Iterator[Callable[[int], None]]:
    """Hold the locks of all rows of the tables; yield a function that waits until so many statements wait for one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(url, autocommit=True) as others, psycopg.connect(url) as holder:
        for table in tables:
            holder.execute(sql.SQL("SELECT * FROM {} FOR UPDATE").format(sql.Identifier(table)))

        def until_waiting(count: int) -> None:
            eventually(lambda: others.execute(waiting).fetchone() == (count,), f"{count} wait")

        yield until_waiting


@pytest.mark.parametrize("locked", ["consents", "families"])
def test_an_account_and_a_client_that_are_deleted_at_once_never_wait_for_each_other(
    database: Database, url: str, locked: str
) -> None:
    """Both wait at a row that a third transaction has locked, with all locks that they take before."""
    user_id = use_client(database, consents=locked == "consents")
    with ThreadPoolExecutor(2) as pool:
        with rows_locked(url, locked) as until_waiting:
            account = pool.submit(delete_account, database, user_id, None, NOW)
            until_waiting(1)
            client = pool.submit(remove_client, database, APP.id, NOW)
            until_waiting(2)
        assert account.result()
        assert client.result() == Removed(sessions=0, users=0), "the account had them, and was first"


def test_batches_of_a_deletion_leave_rows_that_others_have_locked_to_its_last_step(
    database: Database, url: str
) -> None:
    use_client(database, consents=True)
    with rows_locked(url, "families", "consents", "client_sessions"):
        assert remove_in_batches(database, APP.id, NOW, lambda *_: None) == Removed(sessions=0, users=0)
    assert remove_client(database, APP.id, NOW) == Removed(sessions=1, users=1)
