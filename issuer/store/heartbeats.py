"""The heartbeats of all processes that serve: which version of the ring each holds, and what it may still do.

What follows from them is told in `nodes`.
"""

from datetime import datetime, timedelta

from sqlalchemy import Column, Integer, String, Table, Text, delete, insert, select

from issuer.nodes import Heartbeat
from issuer.store.database import Database, Instant, metadata

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("refreshed_at", Instant, nullable=False),
    Column("signs_until", Instant, nullable=False),
    Column("served_until", Instant, nullable=False),
    Column("max_age", Integer, nullable=False),
)


class HeartbeatStore:
    """Keeps one row for each process, as long as what it served may be alive."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, heartbeat: Heartbeat, forget_before: datetime) -> None:
        """Keep the latest heartbeat of a process, and forget those whose documents ran out before an instant."""
        values = {**vars(heartbeat), "max_age": int(heartbeat.max_age.total_seconds())}
        over = select(heartbeats.c.id).where(heartbeats.c.served_until < forget_before)
        # A process that was stopped while it wrote its own row still holds it: nobody waits for that.
        gone = over.with_for_update(skip_locked=True)
        with self._database.write() as connection:
            connection.execute(delete(heartbeats).where(heartbeats.c.id.in_(gone)))
            connection.execute(delete(heartbeats).where(heartbeats.c.id == heartbeat.id))
            connection.execute(insert(heartbeats).values(**values))

    def all(self) -> tuple[Heartbeat, ...]:
        """Return the latest heartbeat of each process, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(heartbeats).order_by(heartbeats.c.name)).mappings().all()
        return tuple(Heartbeat(**{**row, "max_age": timedelta(seconds=row["max_age"])}) for row in rows)
