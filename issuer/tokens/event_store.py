"""The table of session events, summed by user and event, so that requests cannot make it grow without bound.

The events are defined in `session_events`.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Integer, Row, String, Table, case, select

from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable, upserting
from issuer.database.types import Instant
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS
from issuer.tokens.refresh import Family
from issuer.tokens.session_events import SessionEvent, SessionEvents

EVENTS_KEPT = timedelta(days=90)
"""How long a sum is kept after its latest event."""
COUNTED_FOR = timedelta(days=30)
"""A sum that began earlier is reset by the next event."""

session_events = Table(
    "session_events",
    metadata,
    Column("user_id", String(36), primary_key=True),
    Column("event", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False, index=True),
    Column("session", String(36), nullable=False),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
)


class SessionEventStore:
    """Counts the events of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, event: SessionEvent, family: Family, now: datetime) -> None:
        """Count one event; raise DatabaseUnavailable."""
        latest = {"last_at": now, "session": family.id, "client_id": family.client_id}
        key = {"user_id": family.user_id, "event": event.value}
        is_over = session_events.c.first_at < now - COUNTED_FOR
        with self._database.write() as connection:
            row = upserting(connection, session_events).values(**key, **latest, count=1, first_at=now)
            again = {
                **latest,
                "count": case((is_over, 1), else_=session_events.c.count + 1),
                "first_at": case((is_over, now), else_=session_events.c.first_at),
            }
            connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=again))

    def newest(self, most: int) -> tuple[list[SessionEvents], list[DatabaseDamaged]]:
        """Return up to `most` sums, the newest last, and what is wrong with those that cannot be read."""
        found = select(session_events).order_by(session_events.c.last_at.desc()).limit(most)
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        return each_readable(reversed(rows), _sum)


def _sum(row: Row[Any]) -> SessionEvents:
    return SessionEvents(**checked(session_events, row))
