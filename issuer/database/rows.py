"""Rows: the check that each value has the type of its column, and inserts that handle conflicts.

Types of columns are defined in `types`, tables by the modules that own them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Row, Table

from issuer.database.errors import DatabaseDamaged

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

ROWS_MOST = 1000
"""In one statement: each database accepts some thousand parameters."""
KEY_SHOWN = 48
"""Characters of a primary key in an error: an id has 36, and the start of a digest is enough."""


def batched(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the rows in their order, as many at a time as one statement may name on both databases."""
    for start in range(0, len(rows), ROWS_MOST):
        yield rows[start : start + ROWS_MOST]


def upserting(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an insert that accepts `on_conflict_do_update` and `on_conflict_do_nothing`, on both databases."""
    # Imported here only: importing all drivers of PostgreSQL takes longer than the rest of a start.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)


def checked(table: Table, row: Row[Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of `row` by the names of the columns of `table`, which may have a prefix in `row`.

    Raise DatabaseDamaged unless each value has the type of its column: SQLite stores any type in any column.
    """
    found = row._mapping  # noqa: SLF001 - its public name; the row itself has methods of such names
    values = {}
    for name, kind, is_optional in _kinds(table):
        value = values[name] = found[prefix + name]
        if not (isinstance(value, kind) or (value is None and is_optional)):
            raise damaged(table, *(found[prefix + key.name] for key in table.primary_key))
    return values


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
    """Return what `read` returns for the rows that it can read, and the errors for the others."""
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
