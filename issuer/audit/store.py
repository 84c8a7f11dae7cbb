"""The table of the audit log, which is append-only: triggers of the database refuse everything else.

How entries are linked and checked is defined in `chain`.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Integer,
    Row,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from issuer.audit.chain import EMPTY, Entry, Head, Link, chained
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable
from issuer.database.types import Instant

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("kid", String(64)),
    Column("ring_version", Integer),
    Column("reason", Text),
    Column("digest", String(64), nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    CheckConstraint("id = 1", name="one_head"),
)


_ALL = select(audit).order_by(audit.c.number)

MOST_ENTRIES: Final = 2_000_000_000
"""A little below the limit of a PostgreSQL column."""


def append(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add entries within the transaction of the change that they record."""
    # Concurrent appends wait here.
    row = connection.execute(select(audit_head).with_for_update()).one_or_none()
    # Either may have been tampered with: a revocation must not fail for that, and `integrity_error` reports it.
    newest = _number(connection.scalar(select(func.max(audit.c.number)).where(audit.c.number < MOST_ENTRIES)))
    head = Head(max(_number(row.number), newest), str(row.digest)) if row else Head(newest, "")
    for entry in entries:
        link = chained(head, entry)
        connection.execute(insert(audit).values(number=link.number, digest=link.digest, **vars(entry)))
        head = Head(link.number, link.digest)
    connection.execute(update(audit_head).values(number=head.number, digest=head.digest))


def _number(value: object) -> int:
    """Return `value` if this program can have written it, otherwise 0: after any other, nothing could be added."""
    return value if isinstance(value, int) and 0 <= value < MOST_ENTRIES else 0


def head_of(connection: Connection) -> Head:
    """Return the newest link, as it is in the chain itself."""
    row = connection.execute(
        select(audit.c.number, audit.c.digest).order_by(audit.c.number.desc()).limit(1)
    ).one_or_none()
    return Head(_number(row.number), str(row.digest)) if row else EMPTY


def holds(connection: Connection, head: Head) -> bool:
    """Whether the chain still has a link that once was its newest."""
    found = connection.scalar(select(audit.c.digest).where(audit.c.number == head.number))
    return head == EMPTY or found == head.digest


class AuditStore:
    """Stores the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, entry: Entry) -> None:
        """Add one entry."""
        with self._database.write() as connection:
            append(connection, [entry])

    def head(self) -> Head:
        """Return the newest link; `EMPTY` if there is none."""
        with self._database.read() as connection:
            return head_of(connection)

    def chain(self) -> tuple[list[Link], Head]:
        """Return all links, oldest first, and the recorded end; raise DatabaseDamaged for an invalid row."""
        with self._database.snapshot() as connection:
            rows = connection.execute(_ALL).all()
            head = connection.execute(select(audit_head)).one_or_none()
        return [read_link(row) for row in rows], _head(head) if head else EMPTY

    def readable(self) -> tuple[list[Link], list[DatabaseDamaged]]:
        """Return the links that can be read, oldest first, and the errors of the others."""
        with self._database.read() as connection:
            rows = connection.execute(_ALL).all()
        return each_readable(rows, read_link)


def read_link(row: Row[Any]) -> Link:
    """Return the link in a row; raise DatabaseDamaged."""
    values = checked(audit, row)
    number, digest = values.pop("number"), values.pop("digest")
    return Link(number, digest, Entry(**values))


def _head(row: Row[Any]) -> Head:
    checked(audit_head, row)
    return Head(row.number, row.digest)
