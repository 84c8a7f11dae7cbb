"""What the store promises when PostgreSQL fails over: what was answered is there, and dead connections are replaced.

How whole nodes behave then is tested in `soak`.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text
from support.postgresql import HOST, new_database
from support.replication import Pair, temporary_pair
from support.servers import PATIENCE_SECONDS

from issuer.database import engines
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable

pytestmark = pytest.mark.processes


AT_ONCE = 8
"""How many connections are open when the primary is lost."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with temporary_pair() as pair:
        yield pair


@pytest.fixture
def database(pair: Pair) -> Iterator[Database]:
    database = Database(new_database(pair.url))
    with database.write() as connection:
        connection.execute(text("CREATE TABLE numbers (number integer PRIMARY KEY)"))
    yield database
    database.close()


def add(database: Database, number: int) -> None:
    with database.change() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})


@contextmanager
def silent_host() -> Iterator[str]:
    """Yield where connections are accepted, and nothing is ever said."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"{HOST}:{listener.getsockname()[1]}"


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(text("SELECT number FROM numbers ORDER BY number")))


def answers(database: Database) -> bool:
    try:
        database.ping()
    except DatabaseUnavailable:
        return False
    return True


def test_after_a_failover_one_use_fails_at_most_and_the_next_finds_everything_that_was_answered(
    pair: Pair, database: Database
) -> None:
    for failover in range(2):  # and back: the first host of the URL is a replica in between
        with ExitStack() as stack:
            for _ in range(AT_ONCE):
                stack.enter_context(database.read()).execute(text("SELECT 1"))
        add(database, failover)
        pair.lose_primary()
        pair.promote()
        # None fails if the connection was idle for so long that it is asked first.
        assert [answers(database) for _ in range(AT_ONCE)][1:] == [True] * (AT_ONCE - 1)
        assert numbers(database) == list(range(failover + 1))
        pair.replicate()


def test_a_host_that_does_not_answer_is_skipped_after_the_timeout_in_the_url(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 2 * PATIENCE_SECONDS)
    url = new_database(pair.url)
    with silent_host() as silent:
        database = Database(url.replace("@", f"@{silent},", 1) + "?connect_timeout=2")
        began_at = time.monotonic()
        assert answers(database)
        assert time.monotonic() - began_at < PATIENCE_SECONDS
        database.close()


def test_without_a_primary_the_database_is_unavailable_however_many_replicas_answer(
    pair: Pair, database: Database
) -> None:
    add(database, 1)
    pair.lose_primary()
    for _ in range(AT_ONCE):
        with pytest.raises(DatabaseUnavailable, match="cannot be used"):
            database.ping()
    pair.promote()
    assert numbers(database) == [1]
    pair.replicate()
