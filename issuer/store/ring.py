"""The key ring as one versioned document, changed only by compare-and-swap, each change with its audit.

What a ring may look like is `keyring`'s business. One that was moved leaves a mark in its place, see `moving`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, Text, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.audit import Entry
from issuer.keyring import KeyRing
from issuer.policy import instant
from issuer.store.audit import append, audit
from issuer.store.database import Database, DatabaseDamaged, Locked, StoreError, metadata

key_ring = Table(
    "key_ring",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("id = 1", name="one_ring"),
)

LOCK_SECONDS = 0.5
"""Who waits longer for another that is saving decides anew."""

_DOCUMENT = TypeAdapter(KeyRing)


@dataclass(frozen=True)
class Mark:
    """What stands in the place of a ring that was moved: no program takes it for a ring, not even an older one."""

    moved_to: str
    moved_at: str
    document: str
    """The ring that was here."""


_MARK = TypeAdapter(Mark)


class Unreadable(ValueError):
    """The document of a ring is damaged; says how."""


class Moved(StoreError):
    """The key ring of the database was moved into another one, `to`, and is used from here no more."""

    def __init__(self, message: str, to: str) -> None:
        super().__init__(message)
        self.to = to


class RingStore:
    """Keeps the ring."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> KeyRing | None:
        """Return the ring, or None before the first save."""
        with self._database.read() as connection:
            document = connection.scalar(select(key_ring.c.document))
        if document is None:
            return None
        try:
            return read(document)
        except Unreadable as error:
            if mark := marked(document):
                raise _moved(mark) from None
            raise DatabaseDamaged(
                f"the key ring in the database is damaged, {error}: restore the backup, and find out who can write"
                " there"
            ) from None

    def recorded(self) -> int:
        """Return the newest version of the ring that the audit tells of, or 0."""
        with self._database.read() as connection:
            return connection.scalar(select(func.max(audit.c.ring_version))) or 0

    def clock(self) -> datetime | None:
        """Return what the clock that all nodes share says, or None where there is none but ours."""
        return self._database.clock()

    def save(
        self,
        ring: KeyRing,
        entries: Sequence[Entry] = (),
        is_timely: Callable[[], bool] = lambda: True,
        *,
        over: int | None = None,
    ) -> KeyRing | None:
        """Save `ring` in place of the version before its own, with the `entries` of the audit, and return it.

        Or in place of the version `over`, where the database is behind; 0 means no ring.
        None, and nothing saved, if another process was faster or is at it, or `is_timely` says no once the lock
        is held.
        """
        before = ring.version - 1 if over is None else over
        values = {"version": ring.version, "document": written(ring).decode()}
        change = update(key_ring).where(key_ring.c.version == before).values(**values)
        with suppress(Locked), self._saving() as connection:
            done = connection.execute(change).rowcount if before else _inserted(connection, values)
            if not done:
                return None
            append(connection, entries)
            if not is_timely():
                self._database.undo(connection)
                return None
            return ring
        return None

    def leave(self, to: str, now: datetime) -> None:
        """Mark the ring as moved to the database `to`: no process founds, reads or saves one here any more.

        Raise Moved if it is marked already.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one()
            if mark := marked(row.document):
                raise _moved(mark)
            document = _MARK.dump_json(Mark(to, instant(now), row.document)).decode()
            # Of another version, so that nobody saves over the mark who has read the ring before.
            connection.execute(update(key_ring).values(version=row.version + 1, document=document))

    def come_back(self, entries: Sequence[Entry] = ()) -> str | None:
        """Put the ring back in the place of its mark, with `entries` of the audit; return where it was moved to.

        None, and nothing done, if there is no mark.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one_or_none()
            mark = marked(row.document) if row else None
            if row is None or mark is None:
                return None
            connection.execute(update(key_ring).values(version=row.version - 1, document=mark.document))
            append(connection, entries)
            return mark.moved_to

    @contextmanager
    def _saving(self) -> Iterator[Connection]:
        try:
            with self._database.write(lock_seconds=LOCK_SECONDS) as connection:
                yield connection
        except IntegrityError as error:  # not a faster process: the change itself is refused
            raise DatabaseDamaged(f"the database refuses to save the key ring: {error.orig}") from error


def _inserted(connection: Connection, values: Mapping[str, object]) -> bool:
    """Insert the first ring; False if another process made one at the same moment."""
    try:
        with connection.begin_nested():
            connection.execute(insert(key_ring).values(id=1, **values))
    except IntegrityError:
        return False
    return True


def marked(document: str) -> Mark | None:
    """Return the mark that stands in the place of a ring, or None."""
    with suppress(ValidationError):
        return _MARK.validate_json(document)
    return None


def _moved(mark: Mark) -> Moved:
    return Moved(
        f"all that is in this database was moved to {mark.moved_to} at {mark.moved_at}: set ISSUER_DATABASE_URL to"
        " that one; to go back before anything was issued there, or if the move was interrupted: issuer move --back",
        mark.moved_to,
    )


def written(ring: KeyRing) -> bytes:
    """Return the document of a ring; it holds nothing secret."""
    return _DOCUMENT.dump_json(ring)


def read(document: str | bytes) -> KeyRing:
    """Return the ring in a document; raise Unreadable for one that cannot be what `written` returned."""
    try:
        ring = _validated(document)
    except (ValueError, TypeError, LookupError):  # ValidationError is one, and would quote it
        raise Unreadable("it cannot be read") from None
    if fault := ring.fault():
        raise Unreadable(fault)
    return ring


def _validated(document: str | bytes) -> KeyRing:
    try:
        return _DOCUMENT.validate_json(document)
    except ValidationError:
        # A node of the first release, which runs beside us while others are upgraded, does not say when it saved.
        older = json.loads(document)
        older.setdefault("changed_at", max(key["published_at"] for key in older["keys"]))
        return _DOCUMENT.validate_python(older, strict=False)
