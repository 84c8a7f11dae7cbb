"""Searches both audit logs, that of keys and that of accounts and clients: the newest that match, or all in order.

The tables are in `store` and `events`; commands in `cli.audit` print what is found.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any, Final, TypeVar

from sqlalchemy import Row, Select, func, select, text

from issuer.audit.chain import Link
from issuer.audit.event import Recorded
from issuer.audit.events import account_events, read_event
from issuer.audit.store import audit, read_link
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable
from issuer.database.rows import ROWS_MOST, each_readable
from issuer.database.rows import damaged as damaged_row

T = TypeVar("T", Link, Recorded)

Found = Link | Recorded

LOCK_POLLS: Final = 50
LOCK_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Filters:
    """What to search for; None: anything."""

    user_id: str | None = None
    client_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def are_of_accounts(self) -> bool:
        """Whether nothing in the log of keys can match: it names neither users nor clients."""
        return self.user_id is not None or self.client_id is not None


@dataclass(frozen=True, order=True)
class Position:
    """How far both logs were exported: the numbers of the newest rows."""

    key: int = 0
    account: int = 0


def when(found: Found) -> datetime:
    """Return when something happened; of a sum, the latest."""
    return found.entry.at if isinstance(found, Link) else found.event.at


class EventSearch:
    """Reads both logs; nothing is changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, filters: Filters, most: int) -> tuple[list[Found], list[DatabaseDamaged]]:
        """Return up to `most` entries and events, the newest last, and what is wrong with unreadable rows."""
        links, damaged = self._newest_links(filters, most) if not filters.are_of_accounts else ([], [])
        events, damaged_events = self._newest_events(filters, most)
        return list(_merged(links, events))[-most:], [*damaged, *damaged_events]

    def _newest_links(self, filters: Filters, most: int) -> tuple[list[Link], list[DatabaseDamaged]]:
        found = _filtered(select(audit), filters).order_by(audit.c.number.desc()).limit(most)
        return self._readable(found, read_link)

    def _newest_events(self, filters: Filters, most: int) -> tuple[list[Recorded], list[DatabaseDamaged]]:
        newest = account_events.c.at.desc(), account_events.c.number.desc()
        return self._readable(
            _filtered(select(account_events), filters).order_by(*newest).limit(most), read_event
        )

    def _readable(
        self, found: Select[Any], read: Callable[[Row[Any]], T]
    ) -> tuple[list[T], list[DatabaseDamaged]]:
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        return each_readable(reversed(rows), read)

    def count_links(self) -> int:
        """Return how many entries the log of keys has."""
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(audit)) or 0

    def all_after(
        self, position: Position, damaged: Callable[[DatabaseDamaged], object]
    ) -> Iterator[tuple[Position, Found]]:
        """Yield everything after `position` in the order in which it happened, each with the position after it.

        What is recorded meanwhile is left to the next call; what is wrong with a row that cannot be read is passed to
        `damaged`. Raise DatabaseUnavailable if a transaction that records events takes too long.
        """
        end = self._end()
        links = self._batches(audit, position.key, end.key, read_link, damaged)
        events = self._batches(account_events, position.account, end.account, read_event, damaged)
        for found in _merged(links, events):
            if isinstance(found, Link):
                position = Position(found.number, position.account)
            else:
                position = Position(position.key, found.number)
            yield position, found

    def _end(self) -> Position:
        """Return a position up to which every event is committed.

        PostgreSQL numbers events before they are committed, so that one with a lower number may appear later: wait
        for each transaction that is recording now. The chain is numbered under a lock, and SQLite has one writer.
        """
        with self._database.snapshot() as connection:
            end = Position(
                connection.scalar(select(func.max(audit.c.number))) or 0,
                connection.scalar(select(func.max(account_events.c.number))) or 0,
            )
        if self._database.is_sqlite:
            return end
        writing = self._writing()
        for _ in range(LOCK_POLLS):
            if not writing:
                return end
            time.sleep(LOCK_POLL_SECONDS)
            writing &= self._writing()
        raise DatabaseUnavailable(
            f"a transaction of the database {self._database} has been recording events for more than"
            f" {LOCK_POLLS * LOCK_POLL_SECONDS:g} seconds, such as a large import; export again when it has ended"
        )

    def _writing(self) -> set[str]:
        """Return the transactions that hold the lock for changes of the table: taken before a number is."""
        with self._database.read() as connection:
            return set(connection.scalars(_WRITING))

    def _batches(
        self,
        table: Any,
        after: int,
        end: int,
        read: Callable[[Row[Any]], T],
        damaged: Callable[[DatabaseDamaged], object],
    ) -> Iterator[T]:
        """Yield the rows in the order of their numbers, in short transactions: there may be millions."""
        while after < end:
            some = (table.c.number > after) & (table.c.number <= end)
            with self._database.read() as connection:
                numbers = connection.scalars(
                    select(table.c.number).where(some).order_by(table.c.number).limit(ROWS_MOST)
                ).all()
            if not numbers:
                return
            readable, errors = self._read(table, numbers, read)
            for error in errors:
                damaged(error)
            yield from readable
            after = numbers[-1]

    def _read(
        self, table: Any, numbers: Sequence[int], read: Callable[[Row[Any]], T]
    ) -> tuple[list[T], list[DatabaseDamaged]]:
        """Return the rows that can be read, and what is wrong with the others."""
        found = select(table).where(table.c.number.between(numbers[0], numbers[-1])).order_by(table.c.number)
        try:
            with self._database.read() as connection:
                rows = connection.execute(found).all()
        except (
            DatabaseDamaged
        ):  # SQLite stores text that is not UTF-8, and the driver then returns no row at all
            if len(numbers) == 1:
                return [], [damaged_row(table, numbers[0])]
            half = len(numbers) // 2
            parts = [self._read(table, some, read) for some in (numbers[:half], numbers[half:])]
            return [row for rows, _ in parts for row in rows], [
                each for _, errors in parts for each in errors
            ]
        return each_readable(rows, read)


def _merged(links: Iterable[Found], events: Iterable[Found]) -> Iterator[Found]:
    """Merge by time; each log keeps its own order, also where a clock was set back."""
    return merge(links, events, key=when)


_WRITING = text(
    "SELECT virtualtransaction FROM pg_catalog.pg_locks WHERE relation = 'account_events'::regclass"
    " AND mode = 'RowExclusiveLock' AND database = (SELECT oid FROM pg_catalog.pg_database"
    " WHERE datname = pg_catalog.current_database())"
)


def _filtered(found: Select[Any], filters: Filters) -> Select[Any]:
    table = found.get_final_froms()[0]
    for name in ("user_id", "client_id", "action"):
        if (value := getattr(filters, name)) is not None:
            found = found.where(table.c[name] == value)
    if filters.since is not None:
        found = found.where(table.c.at >= filters.since)
    if filters.until is not None:
        found = found.where(table.c.at < filters.until)
    return found
