"""The heartbeats of all processes that serve: which version of the ring each holds, and when it last looked.

What follows from them is told in `nodes`.
"""

from sqlalchemy import Column, Integer, String, Table, Text, delete, insert, select, update

from issuer.nodes import Heartbeat
from issuer.store.database import Database, Instant, metadata

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("refreshed_at", Instant, nullable=False),
)


class HeartbeatStore:
    """Keeps one row for each process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, heartbeat: Heartbeat) -> None:
        """Keep the latest heartbeat of a process."""
        values = {"version": heartbeat.version, "refreshed_at": heartbeat.refreshed_at}
        own = update(heartbeats).where(heartbeats.c.id == heartbeat.id)
        with self._database.write() as connection:
            if not connection.execute(own.values(values)).rowcount:
                connection.execute(insert(heartbeats).values(id=heartbeat.id, name=heartbeat.name, **values))

    def all(self) -> tuple[Heartbeat, ...]:
        """Return the latest heartbeat of each process, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(heartbeats).order_by(heartbeats.c.name)).all()
        return tuple(Heartbeat(row.id, row.name, row.version, row.refreshed_at) for row in rows)

    def remove(self, heartbeat_id: str) -> None:
        """Forget a process that serves no more."""
        with self._database.write() as connection:
            connection.execute(delete(heartbeats).where(heartbeats.c.id == heartbeat_id))
