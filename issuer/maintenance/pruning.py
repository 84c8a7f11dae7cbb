"""Deletes rows that have no effect any more, in small batches, so that no request waits for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, Table, delete, exists, or_, select

from issuer.accounts.freed_names import freed_names
from issuer.audit.events import account_events, is_pruned
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.pushed import PUSHED_KEPT, pushed_requests
from issuer.clients.store import assertions
from issuer.database.database import Database
from issuer.keyring.census import KEPT as CENSUS_KEPT
from issuer.keyring.census_store import is_crowded, key_sets, verifiers
from issuer.keyring.retired_keys import RETIRED_KEPT, retired_public_keys
from issuer.mail.outbox import mails
from issuer.sessions.logout_notices import logout_notices
from issuer.sessions.store import browser_sessions
from issuer.throttling.limits import DEVICE_MEMORY, MEMORY
from issuer.throttling.store import devices, throttle
from issuer.tokens.event_store import EVENTS_KEPT, session_events
from issuer.tokens.refresh_rotation import families, refresh_tokens

BATCH = 500
CLOCKS_DIFFER = timedelta(hours=2)
"""How long rows are kept after they have no effect: they may have one for a node whose clock is behind, or for this
node after its clock is set back. Clocks may differ by ISSUER_CLOCK_SKEW; this allows for an error of an hour."""
EXPIRED_KEPT = timedelta(hours=1)
"""How long an expired refresh token is kept: for a node whose clock is behind it is still valid."""
ENDED_KEPT = timedelta(days=1)
"""How long an ended session is kept, for investigations."""
NOTICES_KEPT = timedelta(days=1)
"""How long a logout notice is kept that no process could send; others are removed within minutes."""

MAILS_KEPT = timedelta(days=1)
"""How long a mail is kept that no process could send, as mail was turned off; others are removed within an hour."""


def prune(database: Database, now: datetime, event_retention: timedelta = timedelta(0)) -> int:
    """Delete up to `BATCH` rows of each kind, and return how many were deleted; 0 if none are left.

    Events of accounts and clients are kept for `event_retention`, or for good if that is 0.
    """
    deleted = sum(_delete(database, table, condition) for table, condition in _without_effect(now))
    if event_retention:
        kept = event_retention + CLOCKS_DIFFER
        deleted += _delete(database, account_events, is_pruned(now - kept, now + kept))
    return deleted


def _without_effect(now: datetime) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    over = _is_over(families, now)
    yield refresh_tokens, refresh_tokens.c.expires_at < now - EXPIRED_KEPT
    yield refresh_tokens, refresh_tokens.c.family_id.in_(select(families.c.id).where(over))
    yield browser_sessions, _is_over(browser_sessions, now)
    # Kept so long that the second use of a code still ends the session of an attacker.
    yield authorization_codes, authorization_codes.c.expires_at < now - ENDED_KEPT
    yield pushed_requests, pushed_requests.c.expires_at < now - PUSHED_KEPT - CLOCKS_DIFFER
    yield logout_notices, _is_far_from(logout_notices.c.created_at, now, NOTICES_KEPT)
    yield mails, _is_far_from(mails.c.created_at, now, MAILS_KEPT)
    yield assertions, assertions.c.expires_at < now - CLOCKS_DIFFER
    # Also rows that a wrong clock wrote with an instant long after `now`: they would never be deleted otherwise.
    yield throttle, _is_far_from(throttle.c.since, now, MEMORY + CLOCKS_DIFFER)
    yield session_events, session_events.c.last_at < now - EVENTS_KEPT
    yield retired_public_keys, retired_public_keys.c.retired_at < now - RETIRED_KEPT
    yield freed_names, freed_names.c.free_from < now - CLOCKS_DIFFER
    yield verifiers, _is_far_from(verifiers.c.seen_at, now, CENSUS_KEPT)
    yield verifiers, is_crowded()
    yield key_sets, _is_far_from(key_sets.c.served_at, now, CENSUS_KEPT)
    yield devices, _is_far_from(devices.c.seen_at, now, DEVICE_MEMORY + CLOCKS_DIFFER)


def _is_over(sessions: Table, now: datetime) -> ColumnElement[bool]:
    return or_(sessions.c.expires_at < now - EXPIRED_KEPT, sessions.c.ended_at < now - ENDED_KEPT)


def _is_far_from(instant: ColumnElement[datetime], now: datetime, span: timedelta) -> ColumnElement[bool]:
    return or_(instant < now - span, instant > now + span)


def _delete(database: Database, table: Table, condition: ColumnElement[bool]) -> int:
    key = next(iter(table.primary_key))
    batch = select(key).where(condition).limit(BATCH)
    with database.read() as connection:  # usually there is nothing to delete, and so nothing to write
        if connection.scalar(batch.limit(1)) is None:
            return 0
    # Rows that are locked are left to the next run.
    batch = batch.with_for_update(skip_locked=True, of=table)
    if table is refresh_tokens:
        return _delete_tokens(database, batch)
    with database.write() as connection:
        # The first column of a key of several columns does not identify a row, so the condition is repeated.
        return connection.execute(delete(table).where(key.in_(batch), condition)).rowcount


def _delete_tokens(database: Database, batch: Select[tuple[object]]) -> int:
    """Delete tokens, and each family whose last token is deleted: it cannot be refreshed any more."""
    expired = delete(refresh_tokens).where(refresh_tokens.c.digest.in_(batch))
    with database.write() as connection:
        of_families = connection.scalars(expired.returning(refresh_tokens.c.family_id)).all()
        empty = families.c.id.in_(set(of_families)) & ~exists().where(
            refresh_tokens.c.family_id == families.c.id
        )
        return len(of_families) + connection.execute(delete(families).where(empty)).rowcount
