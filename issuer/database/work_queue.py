"""Tables of work that is done in the background, such as messages to be sent: each row by one process at a time.

The tables and what is done belong to other modules. A table has the columns of `queue_columns`, and its own.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Integer, Row, String, Table, and_, bindparam, delete, or_, select, update

from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable
from issuer.database.types import Instant


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of such a table."""

    id: str
    created_at: datetime
    attempts: int
    """How often it was taken."""
    due_at: datetime
    """When it may be taken again."""


def queue_columns() -> tuple[Column[Any], ...]:
    """Return the columns that each such table has."""
    return (
        Column("id", String(36), primary_key=True),
        Column("created_at", Instant, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("due_at", Instant, nullable=False, index=True),
    )


def due_row(now: datetime) -> dict[str, object]:
    """Return the values of these columns for a new job."""
    return {"id": str(uuid.uuid4()), "created_at": now, "attempts": 0, "due_at": now}


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Round:
    """What became of the rows that were taken together."""

    delivered: int = 0
    failed: int = 0
    """Will be tried again."""
    given_up: int = 0
    is_full: bool = False
    """Whether more may be due."""


class WorkQueue(Generic[J]):
    """Takes due rows of a table, and removes those that are done."""

    def __init__(
        self, database: Database, table: Table, waits: Sequence[timedelta], make: Callable[..., J]
    ) -> None:
        """Take the waits between one attempt and the next; `make` returns a job for the values of a row."""
        self._database = database
        self._table = table
        self._waits = waits
        self._make = make
        # First attempts come first: receivers that do not answer must not delay others.
        self._order = table.c.attempts, table.c.due_at
        # Built once: that takes longer than executing them.
        self._due = select(table).where(table.c.due_at <= bindparam("now"))
        self._is_due = self._due.limit(1)
        self._taken = (
            update(table)
            .where(table.c.id == bindparam("job"))
            .values(attempts=bindparam("attempt"), due_at=bindparam("again"))
        )

    def is_any_due(self, now: datetime) -> bool:
        """Return whether there is a row to claim."""
        with self._database.read() as connection:
            return connection.execute(self._is_due, {"now": now}).first() is not None

    def claim(self, now: datetime, most: int) -> tuple[list[J], list[DatabaseDamaged]]:
        """Return up to `most` due jobs with this attempt counted, and what was wrong with rows that cannot be read.

        These are removed: no attempt could ever report them as done. No other process gets a job before the wait
        after this attempt is over. A job whose last attempt was never reported, because its process ended, has one
        attempt more than there may be.
        """
        # Rows that another process takes at this moment are left to it.
        due = self._due.order_by(*self._order).limit(most).with_for_update(skip_locked=True)
        with self._database.write() as connection:
            rows = connection.execute(due, {"now": now}).all()
            jobs, damaged = each_readable(rows, lambda row: self._taken_from(row, now))
            if jobs:
                connection.execute(self._taken, [_values(job) for job in jobs])
            if damaged:
                unreadable = {row.id for row in rows} - {job.id for job in jobs}
                connection.execute(delete(self._table).where(self._table.c.id.in_(unreadable)))
        return jobs, damaged

    def remove(self, jobs: Iterable[J]) -> None:
        """Remove jobs that are done, unless they were taken again meanwhile."""
        taken = [and_(self._table.c.id == each.id, self._table.c.attempts == each.attempts) for each in jobs]
        if not taken:
            return
        # As `claim` locks them: rows that another process takes or deletes at this moment are left to it.
        done = (
            select(self._table.c.id)
            .where(or_(*taken))
            .order_by(*self._order)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as connection:
            ids = connection.scalars(done).all()
            connection.execute(delete(self._table).where(self._table.c.id.in_(ids)))

    def _taken_from(self, row: Row[Any], now: datetime) -> J:
        values = checked(self._table, row)
        attempt = values["attempts"] + 1
        wait = self._waits[min(attempt, len(self._waits)) - 1]
        return self._make(**{**values, "attempts": attempt, "due_at": now + wait})


def _values(job: Job) -> dict[str, object]:
    return {"job": job.id, "attempt": job.attempts, "again": job.due_at}
