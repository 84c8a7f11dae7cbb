"""What rows are read and written by: the type of instants, checks of what is read, inserts that expect conflicts.

Transactions are left to `database`, the tables to the modules that own them.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, DateTime, Dialect, Row, Table
from sqlalchemy.types import TypeDecorator

from issuer.store.errors import DatabaseDamaged

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

P = ParamSpec("P")
T = TypeVar("T")


class Instant(TypeDecorator[datetime]):
    """An instant with its zone, on databases that forget it (SQLite) too; always UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Read what another program may have written: SQLite keeps any type in any column."""
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def checked(value: Any) -> datetime | None:
            try:
                return read(value)
            except (ValueError, TypeError, OverflowError):
                raise DatabaseDamaged(
                    "the database holds an instant that cannot be read: restore the backup, and find out who can"
                    " write there"
                ) from None

        return checked

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Send UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Receive UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def upserting(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an insert that may say what to do on a conflict; both databases say it alike."""
    # Only here: importing every driver of PostgreSQL that there is would take longer than all else of a start.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)


def reads(
    table: Table,
) -> Callable[[Callable[Concatenate[Row[Any], P], T]], Callable[Concatenate[Row[Any], P], T]]:
    """Let what reads a row of `table` raise DatabaseDamaged for one that this program cannot have written.

    SQLite keeps any type in any column, and JSON in a column may be anything.
    """

    def decorated(read: Callable[Concatenate[Row[Any], P], T]) -> Callable[Concatenate[Row[Any], P], T]:
        @wraps(read)
        def checked(row: Row[Any], /, *more: P.args, **named: P.kwargs) -> T:
            prefix, values = str(more[0]) if more else "", row._mapping  # noqa: SLF001 - its public name
            try:
                for name, kind, optional in _kinds(table):
                    value = values[prefix + name]
                    if not (isinstance(value, kind) or (value is None and optional)):
                        raise TypeError(name)  # noqa: TRY301 - one way out of all that cannot be read
                return read(row, *more, **named)
            except (ValueError, TypeError, LookupError):
                raise DatabaseDamaged(
                    f"a row of {table.name} in the database is damaged: restore the backup, and find out who can"
                    " write there"
                ) from None

        return checked

    return decorated


@cache
def _kinds(table: Table) -> tuple[tuple[str, type, bool], ...]:
    return tuple((column.name, column.type.python_type, bool(column.nullable)) for column in table.c)


def texts(document: str) -> tuple[str, ...]:
    """Return a list of strings from the JSON of a column; raise ValueError for anything else."""
    found = json.loads(document)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of strings")
    return tuple(found)
