"""Pushed authorization requests, RFC 9126: stored for a minute, and found by their `request_uri`.

They are validated by `validation` like any other. `code_store` uses one up when its code is issued: until then the
user may reload the page, section 4.
"""

import json
import secrets
from datetime import datetime, timedelta

from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from issuer.authorize.request import Parameters
from issuer.authorize.ticket import TICKET_LIFETIME
from issuer.database.database import Database, metadata
from issuer.database.rows import checked, damaged
from issuer.database.types import Instant
from issuer.digests import digest
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS

URN = "urn:ietf:params:oauth:request_uri:"
PUSHED_LIFETIME = timedelta(seconds=60)
PUSHED_KEPT = TICKET_LIFETIME
"""How long a request is kept after that: for tickets, which name it."""
PUSHED_MOST_BYTES = 16 * 1024

pushed_requests = Table(
    "pushed_requests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
)

_UNUSED = select(pushed_requests).where(
    pushed_requests.c.digest == bindparam("wanted"),
    pushed_requests.c.client_id == bindparam("client"),
    pushed_requests.c.used_at.is_(None),
)


class PushedRequests:
    """Stores pushed requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, client_id: str, parameters: Parameters, now: datetime) -> str:
        """Store the parameters of a request; return its `request_uri`, of 256 random bits."""
        request_uri = URN + secrets.token_urlsafe(32)
        row = {
            "digest": digest(request_uri),
            "client_id": client_id,
            "parameters": json.dumps(parameters),
            "expires_at": now + PUSHED_LIFETIME,
        }
        with self._database.write() as connection:
            connection.execute(insert(pushed_requests).values(row))
        return request_uri

    def find(self, request_uri: str, client_id: str, now: datetime, *, in_ticket: bool) -> Parameters | None:
        """Return the parameters that this client pushed, or None: unknown, used, or expired; raise DatabaseDamaged.

        In a ticket a `request_uri` is valid as long as the ticket: the user may have signed in meanwhile.
        """
        wanted = {"wanted": digest(request_uri), "client": client_id}
        with self._database.read() as connection:
            row = connection.execute(_UNUSED, wanted).one_or_none()
        if row is None:
            return None
        values = checked(pushed_requests, row)
        if now >= values["expires_at"] + (PUSHED_KEPT if in_ticket else timedelta(0)):
            return None
        try:
            return tuple((str(name), str(value)) for name, value in json.loads(values["parameters"]))
        except (ValueError, TypeError):
            raise damaged(pushed_requests, values["digest"]) from None


def use_pushed(connection: Connection, request: bytes, now: datetime) -> bool:
    """Mark a pushed request as used; return False if it was before."""
    unused = update(pushed_requests).where(
        pushed_requests.c.digest == request, pushed_requests.c.used_at.is_(None)
    )
    return connection.execute(unused.values(used_at=now)).rowcount > 0
