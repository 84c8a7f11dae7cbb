"""The table of heartbeats, one row for each process.

What follows from them is defined in `heartbeat`.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Integer, Row, String, Table, Text, delete, insert, select

from issuer import strict_json
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.types import Instant
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.validation import FIRST_INSTANT, LAST_INSTANT, MOST_VERSIONS

SETTING_MOST_CHARACTERS = 4096

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
    Column("settings", Text, nullable=False),
)


class HeartbeatStore:
    """Stores the latest heartbeat of each process, as long as key sets that it served may be in caches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, heartbeat: Heartbeat, forget_before: datetime) -> None:
        """Store the latest heartbeat of a process, and delete those with `served_until` before `forget_before`."""
        values = {
            **vars(heartbeat),
            "max_age": int(heartbeat.max_age.total_seconds()),
            "settings": json.dumps(dict(heartbeat.settings)),
        }
        expired = select(heartbeats.c.id).where(heartbeats.c.served_until < forget_before)
        # A process that was stopped while it wrote its own row still locks it: do not wait for it.
        unlocked = expired.with_for_update(skip_locked=True)
        with self._database.write() as connection:
            connection.execute(delete(heartbeats).where(heartbeats.c.id.in_(unlocked)))
            connection.execute(delete(heartbeats).where(heartbeats.c.id == heartbeat.id))
            connection.execute(insert(heartbeats).values(**values))

    def all(self) -> tuple[Heartbeat, ...]:
        """Return the latest heartbeat of each process, ordered by name; raise DatabaseDamaged for an invalid row."""
        with self._database.read() as connection:
            rows = connection.execute(select(heartbeats).order_by(heartbeats.c.name)).all()
        return tuple(map(_heartbeat, rows))


def _heartbeat(row: Row[Any]) -> Heartbeat:
    """Return the heartbeat in a row, which another program may have written; SQLite stores any type anywhere."""
    numbers, texts = (row.version, row.max_age), (row.id, row.name)
    instants = (row.refreshed_at, row.signs_until, row.served_until)
    settings = _settings(row.settings)
    if (
        settings is not None
        and all(isinstance(each, int) and 0 <= each <= MOST_VERSIONS for each in numbers)
        and all(isinstance(each, str) for each in texts)
        and all(isinstance(each, datetime) and FIRST_INSTANT <= each <= LAST_INSTANT for each in instants)
    ):
        return Heartbeat(*texts, row.version, *instants, timedelta(seconds=row.max_age), settings)
    raise DatabaseDamaged(
        "a heartbeat in the database is damaged: find out who can write there, and remove all heartbeats (DELETE FROM"
        " heartbeats); running processes write theirs again"
    )


def _settings(document: object) -> dict[str, str] | None:
    """Return the settings in a row, or None if they are not an object of lines, which commands print to be copied."""
    try:
        settings = strict_json.read_document(str(document))
    except ValueError:
        return None
    is_sound = isinstance(settings, dict) and all(map(_is_line, settings.values()))
    return settings if is_sound else None


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= SETTING_MOST_CHARACTERS
