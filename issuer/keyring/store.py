"""The key ring as one versioned document, changed only by compare-and-swap, each change with its audit.

What a ring may look like is decided in `validity`, what is stored in the place of one that was moved in `tombstone`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, Text, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.audit.chain import Action, Entry, Head
from issuer.audit.store import MOST_ENTRIES, append, audit, head_of, holds
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged, Locked, StoreError
from issuer.keyring.ring import KeyRing
from issuer.keyring.tombstone import LONGEST_DOCUMENT, Tombstone
from issuer.keyring.validity import invalid_reason

key_ring = Table(
    "key_ring",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("id = 1", name="one_ring"),
)

LOCK_SECONDS = 0.5
"""A change that waits longer for another to be saved is decided again."""

_DOCUMENT = TypeAdapter(KeyRing)


class Unreadable(ValueError):
    """The document of a ring is damaged; says how."""


class Moved(StoreError):
    """The key ring was moved to another database, `to`, and this one is no longer used."""

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
            row = connection.execute(select(key_ring.c.version, key_ring.c.document)).one_or_none()
        if row is None:
            return None
        try:
            ring = read(row.document)
            if ring.version != row.version:
                raise Unreadable("its two versions differ")  # noqa: TRY301 - one way out of all that is unreadable
        except Unreadable as error:
            if tombstone := Tombstone.read(row.document):
                raise _moved(tombstone) from None
            raise _damaged(error) from None
        return ring

    def recorded(self) -> int:
        """Return the newest version of the ring that the audit tells of, or 0."""
        with self._database.read() as connection:
            newest: object = connection.scalar(select(func.max(audit.c.ring_version)))
        if not isinstance(newest, int | None):  # SQLite keeps any type in any column
            raise DatabaseDamaged(
                "the audit in the database is damaged, a version of the key ring in it is no number: restore the"
                " backup, and find out who can write there"
            )
        return newest or 0

    def was_recovered(self, ring: KeyRing) -> bool:
        """Return whether the audit says that this version of the ring was saved by a recovery."""
        told = select(audit.c.number).where(
            audit.c.action == Action.RECOVERED, audit.c.ring_version == ring.version
        )
        with self._database.read() as connection:
            return connection.scalar(told.limit(1)) is not None

    def audit_head(self) -> Head:
        """Return the newest link of the audit."""
        with self._database.read() as connection:
            return head_of(connection)

    def has_link(self, head: Head) -> bool:
        """Whether the audit still has a link that was its newest once."""
        with self._database.read() as connection:
            return holds(connection, head)

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
                connection.rollback()
                return None
            return ring
        return None

    def mark_moved(self, to: str, now: datetime) -> None:
        """Store a tombstone in the place of the ring: no process creates, loads or saves a ring here any more.

        Raise Moved if there is a tombstone already.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one()
            if tombstone := Tombstone.read(row.document):
                raise _moved(tombstone)
            document = Tombstone.of(row.document, to, now).written()
            # Another version: a process that loaded the ring before cannot save over the tombstone.
            connection.execute(update(key_ring).values(version=row.version + 1, document=document))

    def unmark_moved(self, entries: Sequence[Entry] = ()) -> str | None:
        """Restore the ring from its tombstone, with `entries` of the audit; return where it was moved to.

        None, and nothing changed, if there is no tombstone.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one_or_none()
            tombstone = Tombstone.read(row.document) if row else None
            if tombstone is None:
                return None
            connection.execute(update(key_ring).values(ring_values(tombstone)))
            append(connection, entries)
            return tombstone.moved_to

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


def _damaged(why: Unreadable) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"the key ring in the database is damaged, {why}: restore the backup, and find out who can write there"
    )


def _moved(tombstone: Tombstone) -> Moved:
    return Moved(
        f"all data here was moved to {tombstone.moved_to} at {tombstone.moved_at}: set ISSUER_DATABASE_URL"
        " to that one; to go back before anything was issued there, or if the move was interrupted:"
        " issuer move --back",
        tombstone.moved_to,
    )


def ring_values(tombstone: Tombstone) -> dict[str, object]:
    """Return the row of the ring that was moved, but for its id; raise DatabaseDamaged."""
    try:
        ring = read(tombstone.document)
    except Unreadable as error:
        raise _damaged(error) from None
    return {"version": ring.version, "document": tombstone.document}


def written(ring: KeyRing) -> bytes:
    """Return the document of a ring; it holds nothing secret."""
    return _DOCUMENT.dump_json(ring)


def checkpoint(ring: KeyRing, head: Head | None) -> bytes:
    """Return what is noted with the private keys: the ring, and the newest link of the audit."""
    noted = json.loads(written(ring))
    if head is not None:
        noted["audit"] = {"number": head.number, "digest": head.digest}
    return json.dumps(noted, separators=(",", ":")).encode()


def noted_head(text: bytes) -> Head | None:
    """Return the link of the audit in what `checkpoint` returned; None where there is none, or it cannot be read."""
    try:
        noted = json.loads(text)["audit"]
        number, digest = noted["number"], noted["digest"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if isinstance(number, int) and 0 <= number < MOST_ENTRIES and isinstance(digest, str):
        return Head(number, digest)
    return None


def read(document: object) -> KeyRing:
    """Return the ring in a document; raise Unreadable for one that cannot be what `written` returned.

    Write access to the database, or to the note beside the private keys, must not be enough to make a node destroy or
    publish keys that the ring never held: every ring passes this check before it is used.
    """
    if not isinstance(document, str | bytes) or len(document) > LONGEST_DOCUMENT:
        raise Unreadable("it is no document of a ring")
    try:
        ring = _DOCUMENT.validate_json(document)
    # ValidationError is a ValueError, and would quote the document; deep nesting ends in a RecursionError.
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        raise Unreadable("it cannot be read") from None
    fault = invalid_reason(ring) or next(filter(None, (key.integrity_error() for key in ring.keys)), None)
    if fault:
        raise Unreadable(fault)
    return ring
