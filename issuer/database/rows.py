"""What rows are read and written by: the type of instants, checks of each row, inserts that expect conflicts.

Transactions are left to `database`, the tables to the modules that own them.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, DateTime, Dialect, Row, Table
from sqlalchemy.types import TypeDecorator

from issuer.database.errors import DatabaseDamaged
from issuer.oauth import InvalidScope

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

P = ParamSpec("P")
T = TypeVar("T")

KEY_SHOWN = 48
"""Characters of a primary key in an error: an id is 36, of a digest the beginning is enough."""


_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError, InvalidScope)
"""What reading the values of a row raises: JSON, members of enumerations, scopes."""


class Instant(TypeDecorator[datetime]):
    """An instant with its zone, on databases that forget it (SQLite) too; always UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What is read; SQLAlchemy tells it of its own types only."""
        return datetime

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Read an instant; what is none, as another program may have written, stays as it is, for `reads` to refuse.

        SQLite keeps any type in any column. One damaged row must not hide the others of its query.
        """
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def lenient(value: Any) -> Any:
            try:
                return read(value)
            except (ValueError, TypeError, OverflowError):
                return value

        return lenient

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
            prefix = str(more[0]) if more else ""
            require_types(table, row, prefix)
            try:
                return read(row, *more, **named)
            except _UNREADABLE:
                raise _damaged(table, row, prefix) from None

        return checked

    return decorated


def require_types(table: Table, row: Row[Any], prefix: str = "") -> None:
    """Raise DatabaseDamaged unless each column of `table` in `row` has a value of its type."""
    values = row._mapping  # noqa: SLF001 - its public name; the row itself has methods of such names
    for name, kind, optional in _kinds(table):
        value = values[prefix + name]
        if not (isinstance(value, kind) or (value is None and optional)):
            raise _damaged(table, row, prefix)


def _damaged(table: Table, row: Row[Any], prefix: str) -> DatabaseDamaged:
    values = row._mapping  # noqa: SLF001 - as above
    return damaged(table, *(values[prefix + key.name] for key in table.primary_key))


def damaged(table: Table, *key: object) -> DatabaseDamaged:
    """Return the error for the row of `table` with that primary key."""
    named = ", ".join(
        each.hex()[:KEY_SHOWN] if isinstance(each, bytes) else ascii(each)[:KEY_SHOWN] for each in key
    )
    return DatabaseDamaged(
        f"the row {named} of {table.name} in the database is damaged: restore the backup, and find out who can write"
        " there"
    )


def each_readable(
    rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T]
) -> tuple[list[T], list[DatabaseDamaged]]:
    """Return what `read` makes of the rows that it can read, and what is wrong with the others."""
    readable, errors = list[T](), list[DatabaseDamaged]()
    for row in rows:
        try:
            readable.append(read(row))
        except DatabaseDamaged as error:
            errors.append(error)
    return readable, errors


@cache
def _kinds(table: Table) -> tuple[tuple[str, type, bool], ...]:
    return tuple((column.name, column.type.python_type, bool(column.nullable)) for column in table.c)


def texts(document: str) -> tuple[str, ...]:
    """Return a list of strings from the JSON of a column; raise ValueError for anything else."""
    found = json.loads(document)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of strings")
    return tuple(found)
