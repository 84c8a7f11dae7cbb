"""The table of events of accounts and clients: recorded in one line by whatever changes them.

It is another table than the chained audit log of keys, for two reasons. A link of the chain needs the digest of the
link before, so that all who append wait for one row until the transaction of the one before is committed: log-ins
would be as many a second as the disk has commits, and would delay revocations of keys, which append under the lock of
the key ring. And any user can cause any number of these events, which would hide those of keys. The price: nothing
but the permissions of the database protects this table from changes.

Rows that people can cause at will are sums by hour, see `event.Event.is_summed`. Searching is left to `event_search`.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    text,
)

from issuer.audit.event import SUM_INTERVAL, UNKNOWN, Event, EventAction, Recorded
from issuer.database.database import Database, metadata
from issuer.database.rows import batched, checked, upserting
from issuer.database.types import Instant
from issuer.digests import digest, named

UNKNOWN_SHARDS: Final = 16
"""Failures for names without an account are counted in so many rows, so that attempts do not all wait for one."""

account_events = Table(
    "account_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Instant, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("user_id", String(36)),
    Column("client_id", String(512)),
    Column("detail", Text),
    Column("reason", Text),
    Column("count", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    # Identifies the row of a sum, and is NULL for others.
    Column("summed", LargeBinary, unique=True),
    Index("ix_account_events_user_id", "user_id", "at"),
    Index("ix_account_events_client_id", "client_id", "at"),
    Index("ix_account_events_action", "action", "at"),
)

_INSERT = insert(account_events)
_NEXT = select(func.coalesce(func.max(account_events.c.number), 0) + 1).scalar_subquery()


def record(connection: Connection, *events: Event) -> None:
    """Store events within the transaction of the change that they record."""
    for some in batched([_row(event) for event in events if not event.is_summed]):
        connection.execute(_INSERT, list(some))
    for event in events:
        if event.is_summed:
            _add_to_sum(connection, event)


def _row(event: Event) -> dict[str, Any]:
    return {**vars(event), "count": 1, "since": event.at}


def _add_to_sum(connection: Connection, event: Event, shard: int = 0) -> None:
    interval = int(event.at.timestamp() // SUM_INTERVAL.total_seconds())
    subject = event.user_id or "", event.client_id or "", str(shard)
    values = {**_row(event), "summed": named("event", str(interval), event.actor, event.action, *subject)}
    if connection.dialect.name == "sqlite":
        values["number"] = (
            _NEXT  # what it would choose itself, but `excluded` has no value that is chosen later
        )
    row = upserting(connection, account_events).values(values)
    again = {
        "number": row.excluded.number,  # whoever has exported the row gets it again
        "at": event.at,
        "count": account_events.c.count + 1,
        "detail": event.detail,
        "reason": event.reason,
    }
    connection.execute(row.on_conflict_do_update(index_elements=["summed"], set_=again))


def is_pruned(before: datetime, after: datetime) -> ColumnElement[bool]:
    """Return the condition for rows from `before` an instant, or `after` one, by a wrong clock.

    The newest row stays, so that its number is not given to another on SQLite.
    """
    newest = select(func.max(account_events.c.number)).scalar_subquery()
    old = or_(account_events.c.at < before, account_events.c.at > after)
    return old & (account_events.c.number != newest)  # not `<`, for which SQLite would scan all numbers


def continue_numbers(connection: Connection) -> None:
    """Let PostgreSQL number new events after those that were copied from another database."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('account_events', 'number'), max(number)) FROM account_events"
            )
        )


class EventStore:
    """Stores events that are no part of another change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, *events: Event) -> None:
        """Store events; raise DatabaseUnavailable."""
        with self._database.write() as connection:
            record(connection, *events)

    def sign_in_failed(self, user_id: str | None, name: str, now: datetime) -> None:
        """Count a failed sign-in: of an account, or without an id for a name that no account has.

        That takes the same work, so that the time of a response does not show whether an account exists. The name is
        not stored: users sometimes type a password as their name.
        """
        event = Event(now, UNKNOWN, EventAction.SIGN_IN_FAILED, user_id)
        with self._database.write() as connection:
            _add_to_sum(connection, event, 0 if user_id else digest(name)[0] % UNKNOWN_SHARDS)


def read_event(row: Row[Any]) -> Recorded:
    """Return the event in a row; raise DatabaseDamaged."""
    values = checked(account_events, row)
    del values["summed"]
    return Recorded(values.pop("number"), values.pop("count"), values.pop("since"), Event(**values))
