"""Takes due logout notices, one process at a time, and removes those that are done.

Notices are queued by `ended`, in the transaction that ends a session, and sent by `tokens.backchannel_logout`.
"""

from datetime import timedelta

from sqlalchemy import select

from issuer.clients.store import clients
from issuer.database.database import Database
from issuer.database.work_queue import WorkQueue
from issuer.sessions.ended import is_told
from issuer.sessions.logout_notices import LogoutNotice, logout_notices
from issuer.sessions.store import client_sessions

WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""Between one attempt and the next; each is longer than an attempt takes, so that no two run at the same time."""
ATTEMPTS_MOST = len(WAITS) + 1


class LogoutNoticeStore(WorkQueue[LogoutNotice]):
    """Stores which clients still have to be told of ended sessions."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, logout_notices, WAITS, LogoutNotice)

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
