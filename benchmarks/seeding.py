"""Fills a database with accounts, clients, sessions and authorization codes before a measurement, in the real schema.

Rows are inserted in bulk and look like those of the issuer, with random passwords.
"""

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, insert, text
from sqlalchemy.types import TypeDecorator, TypeEngine

from issuer.accounts.store import DRAW_BITS, users
from issuer.authorize.code import new_code
from issuer.authorize.code_store import authorization_codes
from issuer.clients.client import FIRST_PARTY_ID
from issuer.clients.store import clients
from issuer.database.database import Database
from issuer.digests import digest
from issuer.oauth import AuthMethod, GrantType, ResponseType
from issuer.sessions.store import browser_sessions
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


def browser_session(number: int) -> str:
    """Return the id of the browser session of an account."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"browser-session-{number}"))


@dataclass(frozen=True)
class Asked:
    """The authorization request that codes answer."""

    client_id: str
    redirect_uri: str
    challenge: str
    scope: frozenset[str]
    audience: tuple[str, ...]


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
                "email_verified": False,
                "draw": secrets.randbits(DRAW_BITS),
                "attributes": {},
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
                "response_types": frozenset[ResponseType](),
                "redirect_uris": (),
                "post_logout_redirect_uris": (),
                "is_trusted": False,
                "requires_pkce": True,
                "requires_par": False,
                "id_token_claims": (),
                "has_roles_claim": False,
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

    def digest_of(number: int) -> bytes:
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
                "userinfo_claims": (),
            }
            for number in numbers
        ),
    )
    _fill(
        database,
        refresh_tokens,
        (
            {
                "digest": digest_of(number),
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


def add_browser_sessions(database: Database, numbers: range) -> None:
    """Add a browser session of each of these accounts."""
    now = datetime.now(UTC)
    _fill(
        database,
        browser_sessions,
        (
            {
                "id": browser_session(number),
                "digest": secrets.token_bytes(32),
                "user_id": user_id(number),
                "auth_time": now,
                "chosen_at": now,
                "acr": "1",
                "amr": ("pwd",),
                "created_at": now,
                "seen_at": now,
                "expires_at": now + timedelta(days=1),
                "is_remembered": False,
                "ended_at": None,
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                "address": "192.0.2.1",
            }
            for number in numbers
        ),
    )


def add_codes(database: Database, count: int, accounts: int, asked: Asked) -> list[str]:
    """Add so many authorization codes of so many accounts in turn, valid for an hour, and return them."""
    now = datetime.now(UTC)
    codes = [new_code() for _ in range(count)]
    _fill(
        database,
        authorization_codes,
        (
            {
                "digest": digest(code),
                "client_id": asked.client_id,
                "user_id": user_id(number % accounts),
                "redirect_uri": asked.redirect_uri,
                "challenge": asked.challenge,
                "nonce": f"nonce-{number}",
                "scope": asked.scope,
                "audience": asked.audience,
                "userinfo_claims": (),
                "browser_session": browser_session(number % accounts),
                "session_expires_at": now + timedelta(days=1),
                "sid": str(uuid.uuid4()),
                "auth_time": now,
                "acr": "1",
                "amr": ("pwd",),
                "expires_at": now + timedelta(hours=1),
            }
            for number, code in enumerate(codes)
        ),
    )
    return codes


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
    if isinstance(kind, TypeDecorator):
        return kind.process_bind_param(value, connection.dialect)
    return value
