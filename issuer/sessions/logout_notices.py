"""The table of logout notices: which clients still have to be told that a browser session has ended.

Notices are queued by `ended` in the transaction that ends a session, and delivered by `tokens.backchannel_logout`.
"""

from dataclasses import dataclass

from sqlalchemy import Column, String, Table

from issuer.database.database import metadata
from issuer.database.work_queue import Job, queue_columns
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS

logout_notices = Table(
    "logout_notices",
    metadata,
    *queue_columns(),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
    Column("user_id", String(36), nullable=False),
    Column("sid", String(36), nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class LogoutNotice(Job):
    """A client that has to be told that a user signed out, OpenID Connect Back-Channel Logout section 2.5."""

    client_id: str
    user_id: str
    sid: str
