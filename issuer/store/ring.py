"""The key ring as one versioned document, changed only by compare-and-swap, each change with its audit.

What a ring may look like is `keyring`'s business.
"""

from collections.abc import Callable, Sequence

from pydantic import TypeAdapter
from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.audit import Entry
from issuer.keyring import KeyRing
from issuer.store.audit import append
from issuer.store.database import Database, metadata

key_ring = Table(
    "key_ring",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("id = 1", name="one_ring"),
)

_DOCUMENT = TypeAdapter(KeyRing)


class RingStore:
    """Keeps the ring."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> KeyRing | None:
        """Return the ring, or None before the first save."""
        with self._database.read() as connection:
            document = connection.scalar(select(key_ring.c.document))
        return None if document is None else _DOCUMENT.validate_json(document)

    def save(
        self, ring: KeyRing, entries: Sequence[Entry] = (), is_timely: Callable[[], bool] = lambda: True
    ) -> KeyRing | None:
        """Save `ring` in place of the version before its own, with the `entries` of the audit, and return it.

        None, and nothing saved, if another process was faster, or `is_timely` says no once the lock is held.
        """
        before = ring.version - 1
        values = {"version": ring.version, "document": _DOCUMENT.dump_json(ring).decode()}
        change = update(key_ring).where(key_ring.c.version == before).values(**values)
        first = insert(key_ring).values(id=1, **values)
        try:
            with self._database.write() as connection:
                done = connection.execute(change if before else first).rowcount
                if not done:
                    return None
                append(connection, entries)
                if not is_timely():
                    connection.rollback()
                    return None
        except IntegrityError:  # two processes made a first ring: one of them is too late
            return None
        return ring
