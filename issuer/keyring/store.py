"""The table of the key ring: one row with a versioned document, changed by compare-and-swap with the audit log.

The document is read and written in `document`. `tombstone` defines what replaces a ring that was moved.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, Text, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.audit.chain import Action, Entry, Head
from issuer.audit.store import append, audit, head_of, holds
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged, Locked
from issuer.keyring.document import Unreadable, read, written
from issuer.keyring.retired_keys import retire
from issuer.keyring.ring import KeyRing
from issuer.keyring.tombstone import Tombstone, read_tombstone

key_ring = Table(
    "key_ring",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("id = 1", name="one_ring"),
)

LOCK_SECONDS: Final = 0.5
"""How long a change waits for another one to be saved, before it is decided again."""


class RingStore:
    """Stores the ring."""

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
                raise Unreadable("its two versions differ")  # noqa: TRY301 - handled like any damage
        except Unreadable as error:
            if tombstone := read_tombstone(row.document):
                raise tombstone.moved() from None
            raise _damaged(error) from None
        return ring

    def version(self) -> object:
        """Return the version of the ring, unchecked, or None before the first save."""
        with self._database.read() as connection:
            return connection.scalar(select(key_ring.c.version))

    def recorded(self) -> int:
        """Return the newest version of the ring in the audit log, or 0."""
        with self._database.read() as connection:
            newest: object = connection.scalar(select(func.max(audit.c.ring_version)))
        if not isinstance(newest, int | None):  # SQLite keeps any type in any column
            raise DatabaseDamaged(
                "the audit log in the database is damaged, a version of the key ring in it is not a number: restore"
                " the backup, and find out who can write there"
            )
        return newest or 0

    def was_recovered(self, ring: KeyRing) -> bool:
        """Whether this version of the ring was saved by a recovery, according to the audit log."""
        recovered = select(audit.c.number).where(
            audit.c.action == Action.RECOVERED, audit.c.ring_version == ring.version
        )
        with self._database.read() as connection:
            return connection.scalar(recovered.limit(1)) is not None

    def audit_head(self) -> Head:
        """Return the newest link of the audit log."""
        with self._database.read() as connection:
            return head_of(connection)

    def has_link(self, head: Head) -> bool:
        """Whether the audit log still has a link that once was its newest."""
        with self._database.read() as connection:
            return holds(connection, head)

    def clock(self) -> datetime | None:
        """Return the time of the database, or None if it has no clock of its own."""
        return self._database.clock()

    def save(
        self,
        ring: KeyRing,
        entries: Sequence[Entry] = (),
        is_timely: Callable[[], bool] = lambda: True,
        *,
        over: int | None = None,
        before: KeyRing | None = None,
    ) -> KeyRing | None:
        """Save `ring` and the `entries` of the audit log, and return it; it must replace the version before its own.

        The public keys that it holds no longer are kept: those of `before`, from which it was decided.

        With `over` it replaces that version, where the database is older; 0 means no ring. Return None and save
        nothing if another process saved first or holds the lock, or if `is_timely` returns False under the lock.
        """
        replaced = ring.version - 1 if over is None else over
        values = {"version": ring.version, "document": written(ring).decode()}
        change = update(key_ring).where(key_ring.c.version == replaced).values(**values)
        with suppress(Locked), self._saving() as connection:
            done = connection.execute(change).rowcount if replaced else _inserted(connection, values)
            if not done:
                return None
            append(connection, entries)
            retire(connection, before, ring)
            if not is_timely():
                connection.rollback()
                return None
            return ring
        return None

    def mark_moved(self, to: str, now: datetime) -> None:
        """Replace the ring by a tombstone that names the database `to`: no process uses or creates a ring here.

        Raise Moved if there is one already.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one()
            if tombstone := read_tombstone(row.document):
                raise tombstone.moved()
            document = Tombstone.of(row.document, to, now).written()
            # Another version: a process that loaded the ring before cannot save over the tombstone.
            connection.execute(update(key_ring).values(version=row.version + 1, document=document))

    def unmark_moved(self, entries: Sequence[Entry] = ()) -> str | None:
        """Put the ring back in place of its tombstone, with `entries` of the audit log; return where it was moved to.

        Do nothing and return None if there is no tombstone.
        """
        with self._database.write() as connection:
            row = connection.execute(select(key_ring).with_for_update()).one_or_none()
            tombstone = read_tombstone(row.document) if row else None
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
        except IntegrityError as error:  # no other process saved first: the change itself is refused
            raise DatabaseDamaged(f"the database refuses to save the key ring: {error.orig}") from error


def _inserted(connection: Connection, values: Mapping[str, object]) -> bool:
    """Insert the first ring; return False if another process did so at the same time."""
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


def ring_values(tombstone: Tombstone) -> dict[str, object]:
    """Return the row of the ring that was moved, except its id; raise DatabaseDamaged."""
    try:
        ring = read(tombstone.document)
    except Unreadable as error:
        raise _damaged(error) from None
    return {"version": ring.version, "document": tombstone.document}
