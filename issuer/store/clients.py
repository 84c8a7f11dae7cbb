"""Clients: one row a registered client; the built-in one is never stored.

What a client may ask for is decided in `clients`.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Column, LargeBinary, Row, String, Table, Text, insert, select, update

from issuer.clients import FIRST_PARTY, FIRST_PARTY_ID, Client
from issuer.oauth import AuthMethod, format_scope, parse_scope
from issuer.store.database import Database, Instant, metadata

clients = Table(
    "clients",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("auth_method", String(32), nullable=False),
    Column("secret_digest", LargeBinary),
    Column("scope", Text, nullable=False),
    Column("audiences", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)


class ClientStore:
    """Keeps clients."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, client: Client) -> None:
        """Keep a new client."""
        row = {
            "id": client.id,
            "name": client.name,
            "auth_method": client.auth_method.value,
            "secret_digest": client.secret_digest,
            "scope": format_scope(client.scope),
            "audiences": json.dumps(client.audiences),
            "created_at": client.created_at,
            "disabled_at": client.disabled_at,
        }
        with self._database.write() as connection:
            connection.execute(insert(clients).values(row))

    def by_id(self, client_id: str) -> Client | None:
        """Return the client, the built-in one included, or None."""
        if client_id == FIRST_PARTY_ID:
            return FIRST_PARTY
        with self._database.read() as connection:
            row = connection.execute(select(clients).where(clients.c.id == client_id)).one_or_none()
        return _client(row) if row else None

    def all(self) -> list[Client]:
        """Return all registered clients, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.created_at, clients.c.id)).all()
        return [_client(row) for row in rows]

    def set_disabled(self, client_id: str, disabled_at: datetime | None) -> None:
        """Disable the client from an instant on, or enable it."""
        with self._database.write() as connection:
            connection.execute(
                update(clients).where(clients.c.id == client_id).values(disabled_at=disabled_at)
            )


def _client(row: Row[Any]) -> Client:
    return Client(
        id=row.id,
        name=row.name,
        auth_method=AuthMethod(row.auth_method),
        scope=parse_scope(row.scope),
        created_at=row.created_at,
        audiences=tuple(json.loads(row.audiences)),
        secret_digest=row.secret_digest,
        disabled_at=row.disabled_at,
    )
