"""The key ring as one versioned document, changed only by compare-and-swap, each change with its audit.

What a ring may look like is decided in `validity`. One that was moved leaves a mark in its place, see
`maintenance.move`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, Text, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.audit.chain import Action, Entry, Head
from issuer.audit.store import MOST_ENTRIES, append, audit, head_of, holds
from issuer.clock import instant
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged, Locked, StoreError
from issuer.database.url import BadURL, parse
from issuer.keyring.ring import KeyRing
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

LONGEST_DOCUMENT: Final = 16 * 1024 * 1024
"""In characters or bytes; one of a thousand keys has less than a tenth of it."""

_DOCUMENT = TypeAdapter(KeyRing)
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


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
    """The key ring of the database was moved into another one, `to`, and is no longer used from here."""

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
            if mark := marked(row.document):
                raise _moved(mark) from None
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
            try:
                version = read(mark.document).version
            except Unreadable as error:
                raise _damaged(error) from None
            connection.execute(update(key_ring).values(version=version, document=mark.document))
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


def marked(document: object) -> Mark | None:
    """Return the mark that stands in the place of a ring, or None.

    Where it leads to is shown to operators as a line for their settings: it must be the URL of a database.
    """
    if not isinstance(document, str) or len(document) > LONGEST_DOCUMENT:
        return None
    with suppress(ValidationError, BadURL):
        mark = _MARK.validate_json(document)
        parse(mark.moved_to)
        if mark.moved_to.isprintable() and _INSTANT.fullmatch(mark.moved_at):
            return mark
    return None


def _damaged(why: Unreadable) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"the key ring in the database is damaged, {why}: restore the backup, and find out who can write there"
    )


def _moved(mark: Mark) -> Moved:
    return Moved(
        f"all that is in this database was moved to {mark.moved_to} at {mark.moved_at}: set ISSUER_DATABASE_URL to"
        " that one; to go back before anything was issued there, or if the move was interrupted: issuer move --back",
        mark.moved_to,
    )


def written(ring: KeyRing) -> bytes:
    """Return the document of a ring; it holds nothing secret."""
    return _DOCUMENT.dump_json(ring)


def checkpoint_document(ring: KeyRing, head: Head | None) -> bytes:
    """Return what is stored beside the private keys: the ring, and the newest link of the audit."""
    noted = json.loads(written(ring))
    if head is not None:
        noted["audit"] = {"number": head.number, "digest": head.digest}
    return json.dumps(noted, separators=(",", ":")).encode()


def checkpoint_head(text: bytes) -> Head | None:
    """Return the audit link in a checkpoint document; None where there is none, or it cannot be read."""
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
        ring = _validated(document)
    # ValidationError is a ValueError, and would quote the document; deep nesting ends in a RecursionError.
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError):
        raise Unreadable("it cannot be read") from None
    error = invalid_reason(ring) or next(filter(None, (key.integrity_error() for key in ring.keys)), None)
    if error:
        raise Unreadable(error)
    return ring


def _validated(document: str | bytes) -> KeyRing:
    try:
        return _DOCUMENT.validate_json(document)
    except ValidationError:
        # A node of the first release, which runs beside us while others are upgraded, does not say when it saved.
        older = json.loads(document)
        older.setdefault("changed_at", max(key["published_at"] for key in older["keys"]))
        return _DOCUMENT.validate_python(older, strict=False)
