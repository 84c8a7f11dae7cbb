"""Clients with many sessions on PostgreSQL: statements that scale, and that no limit of time interrupts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event
from support.authorization import APP
from support.postgresql import temporary_database
from support.servers import eventually
from support.shared_database import lock_held
from support.stores import NOW

from issuer.administration.client_changes import void_codes_without_consent
from issuer.administration.client_sessions import count_exceeding, count_sessions
from issuer.clients.resources import Resources
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.tokens.entitlements import Entitlements

LIMIT_SECONDS = 0.2


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


@pytest.mark.parametrize(
    "count",
    [
        lambda database: count_sessions(database, APP.id, NOW),
        lambda database: count_exceeding(database, APP, APP, entitlements(database), NOW),
    ],
    ids=["sessions", "sessions that hold more"],
)
@pytest.mark.usefixtures("database")
def test_counting_takes_as_long_as_it_needs(url: str, count: Callable[[Database], int]) -> None:
    """The lock stands for a large table: statements are cancelled after a time, whatever they wait for."""
    limited = f"{url}?options=-cstatement_timeout%3D{LIMIT_SECONDS}s"
    running = (
        "SELECT max(now() - query_start) > make_interval(secs => %s) FROM pg_stat_activity WHERE query ~* %s"
    )
    with (
        closing(Database(limited)) as issuer,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url, autocommit=True) as others,
        lock_held(url, "LOCK TABLE families IN ACCESS EXCLUSIVE MODE") as until_waiting,
    ):
        counted = pool.submit(count, issuer)
        until_waiting(1)
        asked = [LIMIT_SECONDS * 2, "^SELECT .*families"]
        eventually(lambda: counted.done() or others.execute(running, asked).fetchone() == (True,), "it waits")
        assert not counted.done(), counted.exception()
    assert counted.result() == 0
