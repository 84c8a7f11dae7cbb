"""Fills a database with accounts, clients and sessions before a measurement, in the real schema.

Rows are inserted in bulk and look like those of the issuer, with random passwords.
"""

import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, insert, text
from sqlalchemy.types import TypeDecorator, TypeEngine

from issuer.accounts.store import DRAW_BITS, users
from issuer.clients.client import FIRST_PARTY_ID
from issuer.clients.store import clients
from issuer.database.database import Database
from issuer.oauth import AuthMethod, GrantType
from issuer.tokens.refresh_rotation import families, refresh_tokens
from issuer.tokens.refresh_text import new_refresh_token

BATCH = 10_000
SQLITE_KIB = 500_000
SCOPE = frozenset({"items:read", "items:write"})


def username(number: int) -> str:
    """Name an account."""
    return f"user-{number}"


def user_id(number: int) -> str:
    """Return its id: it looks as random as the real ones, and is known by its number."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, username(number)))


def client_id(number: int) -> str:
    """Return the id of a client, likewise."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"client-{number}"))


def add_accounts(database: Database, numbers: range, password_hash: str) -> None:
    """Add the accounts of these numbers, all with one password."""
    now = datetime.now(UTC)
    _fill(
        database,
        users,
        (
            {
                "id": user_id(number),
                "username": username(number),
                "canonical_username": username(number),
                "password_hash": password_hash,
                "scope": SCOPE,
                "created_at": now,
                "disabled_at": None,
                "draw": secrets.randbits(DRAW_BITS),
            }
            for number in numbers
        ),
    )


def add_clients(database: Database, numbers: range, secret_digest: bytes) -> None:
    """Add the clients of these numbers, all with one secret."""
    now = datetime.now(UTC)
    _fill(
        database,
        clients,
        (
            {
                "id": client_id(number),
                "name": f"client {number}",
                "auth_method": AuthMethod.BASIC,
                "secret_digest": secret_digest,
                "scope": SCOPE,
                "audiences": (),
                "grant_types": frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN}),
                "created_at": now,
            }
            for number in numbers
        ),
    )


def add_families(database: Database, numbers: range, accounts: int, tokens: list[str] | None = None) -> None:
    """Add sessions of so many accounts in turn, each with one refresh token, which `tokens` is given."""
    now = datetime.now(UTC)
    until = now + timedelta(days=30)
    ids = {number: str(uuid.uuid4()) for number in numbers}

    def digest(number: int) -> bytes:
        if tokens is None:
            return secrets.token_bytes(32)
        tokens.append(new_refresh_token(ids[number]))
        return digest(tokens[-1])

    _fill(
        database,
        families,
        (
            {
                "id": ids[number],
                "user_id": user_id(number % accounts),
                "client_id": FIRST_PARTY_ID,
                "scope": SCOPE,
                "audience": ("http://127.0.0.1:8001", "http://127.0.0.1:8000"),
                "created_at": now,
                "expires_at": until,
                "ended_at": None,
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                "address": "192.0.2.1",
            }
            for number in numbers
        ),
    )
    _fill(
        database,
        refresh_tokens,
        (
            {
                "digest": digest(number),
                "family_id": ids[number],
                "expires_at": until,
                "successor_seed": secrets.token_bytes(32),
                "used_at": None,
                "proof_digest": secrets.token_bytes(32),
                "subnet": "192.0.2.1",
                "paced_until": None,
            }
            for number in numbers
        ),
    )


def analyze(database: Database) -> None:
    """Let the database know its tables, as it comes to by itself in the long run."""
    with database.write() as connection:
        connection.execute(text("ANALYZE"))


def _fill(database: Database, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        with database.write() as connection:
            # Ids are random: without memory every row would be a page read and written.
            if database.is_sqlite:
                connection.execute(text(f"PRAGMA cache_size = -{SQLITE_KIB}"))
                connection.execute(insert(table), batch)
            else:
                _copy(connection, table, batch)


def _copy(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Copy rows to PostgreSQL, which takes a fraction of what inserting them does."""
    columns = ", ".join(rows[0])
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copying:
        for row in rows:
            copying.write_row(
                tuple(_stored(table.c[name].type, value, connection) for name, value in row.items())
            )


def _stored(kind: TypeEngine[Any], value: Any, connection: Connection) -> Any:
    """Return a value as a statement of SQLAlchemy would store it."""
    is_own = isinstance(kind, TypeDecorator)
    return kind.process_bind_param(value, connection.dialect) if is_own else value
