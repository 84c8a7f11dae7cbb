"""Ends browser sessions, and queues the notices to the clients that are told of it.

Refresh families that end with a session are ended by `tokens.family_store`, in the same transaction.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, join, select, true, update

from issuer.clients.store import clients
from issuer.database.rows import batched
from issuer.database.work_queue import due_row
from issuer.sessions.logout_notices import logout_notices
from issuer.sessions.store import active_sessions, browser_sessions, client_sessions


def end_browser_sessions(connection: Connection, condition: ColumnElement[bool], now: datetime) -> list[str]:
    """End the active sessions that meet `condition`, queue the notices to their clients, and return their ids.

    Called by what else ends with a session, in one transaction; see `tokens.family_store`.
    """
    ended = update(browser_sessions).where(condition, *active_sessions(now)).values(ended_at=now)
    ids = list(connection.scalars(ended.returning(browser_sessions.c.id)))
    for some in batched(ids):
        _queue_notices(connection, some, now)
    return ids


def end_browser_sessions_of(
    connection: Connection, user_id: str | None, spared: str | None, now: datetime
) -> list[str]:
    """End the active sessions of a user, or of all users, except the `spared` one, as `end_browser_sessions` does."""
    condition: ColumnElement[bool] = true()
    if user_id is not None:
        condition &= browser_sessions.c.user_id == user_id
    if spared is not None:
        condition &= browser_sessions.c.id != spared
    return end_browser_sessions(connection, condition, now)


def _queue_notices(connection: Connection, ids: Sequence[str], now: datetime) -> None:
    both = join(client_sessions, clients, client_sessions.c.client_id == clients.c.id).join(
        browser_sessions, browser_sessions.c.id == client_sessions.c.browser_session
    )
    told = (
        select(client_sessions.c.client_id, client_sessions.c.sid, browser_sessions.c.user_id)
        .select_from(both)
        .where(browser_sessions.c.id.in_(ids), *is_told())
    )
    notices = [{**row, **due_row(now)} for row in connection.execute(told).mappings()]
    if notices:
        connection.execute(insert(logout_notices), notices)


def is_told() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions under which a client is told of ended sessions."""
    return clients.c.backchannel_logout_uri.is_not(None), clients.c.disabled_at.is_(None)
