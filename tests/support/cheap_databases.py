"""What every new SQLite database costs, paid once in the process of the tests.

What the migrations made of the first database is copied into all others, without Alembic, which takes 30 ms of CPU;
statements of the program are compiled once, instead of once for each engine; and commits do not wait for the disk, as
no test makes the power fail. `real_migrations` is for tests of the migrations. Databases on PostgreSQL, and those of
commands and servers in processes of their own, are as in production.
"""

from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from issuer.database import engines, migrations

_sqlite = engines._sqlite
_upgrade = migrations.upgrade
_compiled: LRUCache[Any, Any] = LRUCache(2000)
_dump: list[str] = []


def make_cheap() -> None:
    """Make SQLite databases cheap in this process."""
    migrations.upgrade = upgrade
    engines._sqlite = connect
    # A dialect is part of the keys of compiled statements: those of one engine fit all others of the same kind.
    SQLiteDialect_pysqlite.__eq__ = lambda one, other: type(one) is type(other)  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__hash__ = lambda one: hash(type(one))  # type: ignore[assignment]


def connect(url: URL, *, reads: bool) -> Engine:
    """Return an engine that shares compiled statements with the others, and does not wait for the disk."""
    engine = _sqlite(url, reads=reads)
    engine._compiled_cache = _compiled
    if not reads:
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return engine


def upgrade(connection: Connection) -> None:
    """Upgrade an empty SQLite database by a copy of what the migrations made of the first; others by them."""
    if connection.dialect.name != "sqlite" or not _is_empty(connection):
        _upgrade(connection)
    elif _dump:
        driver = connection.connection.driver_connection
        assert driver
        for statement in _dump:  # without what SQLAlchemy does for each
            driver.execute(statement)
    else:
        _upgrade(connection)
        dump = connection.connection.driver_connection.iterdump()  # type: ignore[union-attr]
        _dump[:] = [line for line in dump if line not in {"BEGIN TRANSACTION;", "COMMIT;"}]


def _is_empty(connection: Connection) -> bool:
    return connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first() is None


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Alembic run the migrations, as in production."""
    monkeypatch.setattr(migrations, "upgrade", _upgrade)
