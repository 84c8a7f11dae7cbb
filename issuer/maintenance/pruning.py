"""Letting go of rows that mean nothing any more, a few at a time, so that no request waits for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, Table, delete, exists, or_, select

from issuer.clients.store import assertions
from issuer.database.database import Database
from issuer.throttling.limits import DEVICE_MEMORY, MEMORY
from issuer.throttling.store import devices, throttle
from issuer.tokens.event_store import EVENTS_KEPT, session_events
from issuer.tokens.refresh_rotation import families, refresh_tokens

BATCH = 500
CLOCKS_APART = timedelta(hours=2)
"""Rows that mean nothing any more are kept for so long, as they may still mean something to another node, or to this
one once its clock is set back. Clocks may differ by ISSUER_CLOCK_SKEW; this is for one that is an hour wrong."""
EXPIRED_FOR = timedelta(hours=1)
"""How long an expired refresh token is kept: another node may still take it for a living one."""
ENDED_FOR = timedelta(days=1)
"""How long an ended session is kept, for who looks into what happened."""


def prune(database: Database, now: datetime) -> int:
    """Let up to `BATCH` rows of each kind go, and return how many went; zero: there is nothing left to do."""
    return sum(_let_go(database, table, meaningless) for table, meaningless in _meaningless(now))


def _meaningless(now: datetime) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    over = or_(families.c.expires_at < now - EXPIRED_FOR, families.c.ended_at < now - ENDED_FOR)
    yield refresh_tokens, refresh_tokens.c.expires_at < now - EXPIRED_FOR
    yield refresh_tokens, refresh_tokens.c.family_id.in_(select(families.c.id).where(over))
    yield assertions, assertions.c.expires_at < now - CLOCKS_APART
    # Also what was written down as of long after `now`: by a clock that was wrong, and nobody would ever remove it.
    yield throttle, _is_far_from(throttle.c.since, now, MEMORY + CLOCKS_APART)
    yield session_events, session_events.c.last_at < now - EVENTS_KEPT
    yield devices, _is_far_from(devices.c.seen_at, now, DEVICE_MEMORY + CLOCKS_APART)


def _is_far_from(instant: ColumnElement[datetime], now: datetime, span: timedelta) -> ColumnElement[bool]:
    return or_(instant < now - span, instant > now + span)


def _let_go(database: Database, table: Table, meaningless: ColumnElement[bool]) -> int:
    key = next(iter(table.primary_key))
    some = select(key).where(meaningless).limit(BATCH)
    with database.read() as connection:  # most of the time there is nothing to write
        if connection.scalar(some.limit(1)) is None:
            return 0
    # Rows that others hold are for the next time.
    some = some.with_for_update(skip_locked=True, of=table)
    if table is refresh_tokens:
        return _let_tokens_go(database, some)
    with database.write() as connection:
        # The first column of a key of several does not name a row.
        return connection.execute(delete(table).where(key.in_(some), meaningless)).rowcount


def _let_tokens_go(database: Database, some: Select[tuple[object]]) -> int:
    """Let tokens go, and with its last one the family: it could never be refreshed again."""
    gone = (
        delete(refresh_tokens).where(refresh_tokens.c.digest.in_(some)).returning(refresh_tokens.c.family_id)
    )
    with database.write() as connection:
        of_families = connection.scalars(gone).all()
        empty = families.c.id.in_(set(of_families)) & ~exists().where(
            refresh_tokens.c.family_id == families.c.id
        )
        return len(of_families) + connection.execute(delete(families).where(empty)).rowcount
