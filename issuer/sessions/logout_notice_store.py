"""Takes due logout notices, one process at a time, and removes those that are done.

Notices are queued by `ended`, in the transaction that ends a session, and sent by `tokens.backchannel_logout`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, or_, select, update

from issuer.clients.store import clients
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable
from issuer.sessions.ended import is_told
from issuer.sessions.logout_notices import LogoutNotice, logout_notices
from issuer.sessions.store import client_sessions

WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""Between one attempt and the next; each is longer than an attempt takes, so that no two run at the same time."""
ATTEMPTS_MOST = len(WAITS) + 1

# Built once: that takes longer than executing them.
_DUE = select(logout_notices).where(logout_notices.c.due_at <= bindparam("now"))
_IS_DUE = _DUE.limit(1)
_TAKEN = (
    update(logout_notices)
    .where(logout_notices.c.id == bindparam("notice"))
    .values(attempts=bindparam("attempt"), due_at=bindparam("again"))
)


class LogoutNoticeStore:
    """Stores which clients still have to be told of ended sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_any_due(self, now: datetime) -> bool:
        """Return whether there is a notice to claim."""
        with self._database.read() as connection:
            return connection.execute(_IS_DUE, {"now": now}).first() is not None

    def claim(self, now: datetime, most: int) -> tuple[list[LogoutNotice], list[DatabaseDamaged]]:
        """Return up to `most` due notices with this attempt counted, and what is wrong with unreadable ones.

        No other process gets them before the wait after this attempt is over. A notice whose last attempt was never
        reported, because its process ended, has more than `ATTEMPTS_MOST` attempts.
        """
        # First attempts come first: clients that do not answer must not delay others. Rows that another process takes
        # at this moment are left to it.
        order = logout_notices.c.attempts, logout_notices.c.due_at
        due = _DUE.order_by(*order).limit(most).with_for_update(skip_locked=True)
        with self._database.write() as connection:
            rows = connection.execute(due, {"now": now}).all()
            notices, damaged = each_readable(rows, lambda row: _taken(row, now))
            if notices:
                connection.execute(_TAKEN, [_values(notice) for notice in notices])
        return notices, damaged

    def remove(self, notices: Iterable[LogoutNotice]) -> None:
        """Remove notices that are done, unless they were taken again meanwhile."""
        done = [
            and_(logout_notices.c.id == each.id, logout_notices.c.attempts == each.attempts)
            for each in notices
        ]
        if done:
            with self._database.write() as connection:
                connection.execute(delete(logout_notices).where(or_(*done)))

    def recipients(self, session_id: str) -> list[str]:
        """Return the names of the clients that will be told when a browser session ends, in their order."""
        both = client_sessions.join(clients, clients.c.id == client_sessions.c.client_id)
        found = (
            select(clients.c.name)
            .select_from(both)
            .where(client_sessions.c.browser_session == session_id, *is_told())
            .order_by(clients.c.name)
        )
        with self._database.read() as connection:
            return list(connection.scalars(found))


def _taken(row: Row[Any], now: datetime) -> LogoutNotice:
    values = checked(logout_notices, row)
    attempt = values["attempts"] + 1
    wait = WAITS[min(attempt, len(WAITS)) - 1]
    return LogoutNotice(**{**values, "attempts": attempt, "due_at": now + wait})


def _values(notice: LogoutNotice) -> dict[str, object]:
    return {"notice": notice.id, "attempt": notice.attempts, "again": notice.due_at}
