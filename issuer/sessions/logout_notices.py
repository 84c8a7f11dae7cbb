"""The table of logout notices: which clients still have to be told that a browser session has ended.

Notices are queued by `ended` in the transaction that ends a session, and delivered by `tokens.backchannel_logout`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Integer, String, Table

from issuer.database.database import metadata
from issuer.database.types import Instant
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS

logout_notices = Table(
    "logout_notices",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
    Column("user_id", String(36), nullable=False),
    Column("sid", String(36), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
)


@dataclass(frozen=True)
class LogoutNotice:
    """A client that has to be told that a user signed out, OpenID Connect Back-Channel Logout section 2.5."""

    id: str
    client_id: str
    user_id: str
    sid: str
    created_at: datetime
    attempts: int
    due_at: datetime
