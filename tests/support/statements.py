"""Counts the statements that a database is sent."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from issuer.database.database import Database


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Yield a list that gets the statements within the block, without those that begin and end transactions."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database._engine, "before_cursor_execute", note)
