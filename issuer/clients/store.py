"""The tables of registered clients, and of the assertions that were used. The built-in client is not stored.

What a client may use is decided in `client`.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.blocking import is_blocking_allowed
from issuer.clients.client import FIRST_PARTY, FIRST_PARTY_ID, Client
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import batched, checked, each_readable
from issuer.database.subjects import claim
from issuer.database.types import Instant, Member, Members, Scope, Texts
from issuer.digests import named
from issuer.errors import Refused
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS, AuthMethod, GrantType, ResponseType

clients = Table(
    "clients",
    metadata,
    Column("id", String(CLIENT_ID_MOST_CHARACTERS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("auth_method", Member(AuthMethod), nullable=False),
    Column("secret_digest", LargeBinary),
    Column("scope", Scope, nullable=False),
    Column("audiences", Texts, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Column("old_secret_digest", LargeBinary),
    Column("old_secret_until", Instant),
    Column("jwks", Text),
    Column("jwks_uri", Text),
    Column("grant_types", Members(GrantType), nullable=False),
    Column("refresh_removed_at", Instant),
    Column("response_types", Members(ResponseType), nullable=False),
    Column("redirect_uris", Texts, nullable=False),
    Column("post_logout_redirect_uris", Texts, nullable=False),
    Column("backchannel_logout_uri", Text),
    Column("is_trusted", Boolean, nullable=False),
    Column("requires_pkce", Boolean, nullable=False),
    Column("requires_par", Boolean, nullable=False),
    Column("id_token_claims", Texts, nullable=False),
    Column("has_roles_claim", Boolean, nullable=False),
    Index("ix_clients_order", "created_at", "id"),
)

assertions = Table(
    "assertions",
    metadata,
    Column("assertion", LargeBinary, primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)


_BY_ID = select(clients).where(clients.c.id == bindparam("client_id"))
"""Built once: that takes longer than executing it."""


MEMORY = timedelta(seconds=1)
"""How long a process uses a client as it was looked up; commands that disable a client wait for that."""
REMEMBERED_MOST = 1024


@dataclass(eq=False)
class _Seen:
    """A client as it was looked up, and whether a request is looking it up again."""

    client: Client
    at: datetime
    is_refreshing: bool = False


@dataclass(frozen=True)
class Filters:
    """Which clients are listed."""

    like: str = ""
    """A part of the name or of the id, in upper or lower case."""
    disabled: bool = False
    """Whether only disabled ones are listed."""


class Page(NamedTuple):
    """A part of a list of clients."""

    clients: list[Client]
    damaged: list[DatabaseDamaged]
    next_after: str | None
    """The id after which the next page begins; None: this is the last one."""


class ClientStore:
    """Stores clients; each change with the events that its caller gives."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, _Seen] = {}

    def add(self, client: Client, *events: Event) -> None:
        """Keep a new client; raise Refused if another client or an account has its identifier."""
        try:
            with self._database.write() as connection:
                insert_client(connection, client)
                record(connection, *events)
        except IntegrityError:
            raise Refused(f"another client or an account has the identifier {client.id}") from None

    def remove(self, client_id: str, *events: Event) -> None:
        """Remove a client that has not been used yet."""
        with self._database.write() as connection:
            connection.execute(delete(clients).where(clients.c.id == client_id))
            record(connection, *events)
        self._seen.pop(client_id, None)

    def by_id(self, client_id: str, now: datetime | None = None) -> Client | None:
        """Return the client, also the built-in one, or None; with `now`, remember it for `recent`."""
        if client_id == FIRST_PARTY_ID:
            return FIRST_PARTY
        with self._database.read() as connection:
            row = connection.execute(_BY_ID, {"client_id": client_id}).one_or_none()
        client = _client(row) if row else None
        if client and now:
            if len(self._seen) >= REMEMBERED_MOST:
                self._seen.clear()
            self._seen[client_id] = _Seen(client, now)
        return client

    def find_enabled(self, client_id: str) -> Client | None:
        """Return the client that a request names; None if it is unknown or disabled, or the text is no identifier."""
        is_plain = client_id.isascii() and client_id.isprintable()
        client = self.by_id(client_id) if is_plain and len(client_id) <= CLIENT_ID_MOST_CHARACTERS else None
        return None if client is None or client.disabled_at is not None else client

    def recent(self, client_id: str, now: datetime) -> Client | None:
        """Return the client if it was looked up within the last second, else None; without the database.

        In the second half of that second one caller gets None and looks it up again, or all would at its end.
        """
        if client_id == FIRST_PARTY_ID:
            return FIRST_PARTY
        seen = self._seen.get(client_id)
        if seen is None or not timedelta(0) <= now - seen.at < MEMORY:
            return None
        if now - seen.at >= MEMORY / 2 and (is_blocking_allowed() or not seen.is_refreshing):
            seen.is_refreshing = True
            return None
        return seen.client

    def all(self) -> tuple[list[Client], list[DatabaseDamaged]]:
        """Return all registered clients, oldest first, and what is wrong with those that cannot be read."""
        with self._database.read() as connection:
            rows = connection.execute(select(clients).order_by(clients.c.created_at, clients.c.id)).all()
        return each_readable(rows, _client)

    def page(self, filters: Filters, after: str | None, limit: int) -> Page:
        """Return at most `limit` registered clients in the order of `all`, that follow the one with the id `after`.

        Raise LookupError if that is not registered.
        """
        order = tuple_(clients.c.created_at, clients.c.id)
        wanted = select(clients).order_by(clients.c.created_at, clients.c.id).limit(limit + 1)
        with self._database.snapshot() as connection:
            if after is not None:
                place = select(clients.c.created_at, clients.c.id).where(clients.c.id == after)
                row = connection.execute(place).one_or_none()
                if row is None:
                    raise LookupError(after)
                wanted = wanted.where(order > tuple_(literal(row.created_at, Instant), row.id))
            rows = connection.execute(wanted.where(*_conditions(filters))).all()
        readable, damaged = each_readable(rows[:limit], _client)
        return Page(readable, damaged, str(rows[limit - 1].id) if len(rows) > limit else None)

    def set_disabled(self, client_id: str, disabled_at: datetime | None, *events: Event) -> None:
        """Disable the client from an instant on, or with None enable it."""
        self._update(client_id, events, disabled_at=disabled_at)

    def require_pkce(self, client_id: str, *events: Event) -> None:
        """Require PKCE of a client from now on: it has used it, so that a request without it is an attack."""
        self._update(client_id, events, requires_pkce=True)

    def _update(self, client_id: str, events: Iterable[Event], **values: object) -> None:
        with self._database.write() as connection:
            connection.execute(update(clients).where(clients.c.id == client_id).values(**values))
            record(connection, *events)
        self._seen.pop(client_id, None)

    def set_secret(self, client: Client, before: bytes | None, *events: Event) -> bool:
        """Store the secrets of `client`; return False and store nothing if the newest is no longer `before`."""
        secrets = {
            "secret_digest": client.secret_digest,
            "old_secret_digest": client.old_secret_digest,
            "old_secret_until": client.old_secret_until,
        }
        same = clients.c.id == client.id, clients.c.secret_digest == before
        with self._database.write() as connection:
            changed = connection.execute(update(clients).where(*same).values(secrets)).rowcount > 0
            record(connection, *(events if changed else ()))
        self._seen.pop(client.id, None)
        return changed

    def use_assertion(self, client_id: str, jti: str, expires_at: datetime) -> bool:
        """Mark an assertion used until it expires; return False if it was used before."""
        row = {"assertion": named("assertion", client_id, jti), "expires_at": expires_at}
        try:
            with self._database.write() as connection:
                connection.execute(insert(assertions).values(row))
        except IntegrityError:
            return False
        return True


def lock_client(connection: Connection, client_id: str) -> Client | None:
    """Return a registered client, locked until the transaction ends, or None; raise DatabaseDamaged."""
    row = connection.execute(_BY_ID.with_for_update(), {"client_id": client_id}).one_or_none()
    return _client(row) if row else None


def find_clients(
    connection: Connection, ids: Collection[str], names: Collection[str], *, every: bool, lock: bool
) -> list[Client]:
    """Return the registered clients with one of the ids or names, or every one; raise DatabaseDamaged.

    With `lock` they are locked until the transaction ends.
    """
    wanted = select(clients).order_by(clients.c.created_at, clients.c.id)
    if lock:
        wanted = wanted.with_for_update()
    if every:
        return [_client(row) for row in connection.execute(wanted)]
    found = {}
    for column, values in ((clients.c.id, ids), (clients.c.name, names)):
        for some in batched(sorted(values)):
            found.update({row.id: _client(row) for row in connection.execute(wanted.where(column.in_(some)))})
    return list(found.values())


def insert_client(connection: Connection, client: Client) -> None:
    """Add a client within a transaction; raise IntegrityError if its id was ever used."""
    connection.execute(insert(clients).values(vars(client)))
    claim(connection, [client.id])


def update_client(connection: Connection, before: Client, after: Client) -> None:
    """Store what differs between two states of a client that the transaction has locked."""
    values = {name: value for name, value in vars(after).items() if value != getattr(before, name)}
    if values:
        connection.execute(update(clients).where(clients.c.id == before.id).values(values))


def delete_client(connection: Connection, client_id: str) -> None:
    """Delete a client within a transaction; its id stays used."""
    connection.execute(delete(clients).where(clients.c.id == client_id))


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.disabled:
        yield clients.c.disabled_at.is_not(None)
    if filters.like:
        escaped = re.sub(r"([\\%_])", r"\\\1", filters.like)
        text = func.lower(f"%{escaped}%")  # as the database lowers, on both sides
        yield or_(*(func.lower(column).like(text, escape="\\") for column in (clients.c.name, clients.c.id)))


def _client(row: Row[Any]) -> Client:
    return Client(**checked(clients, row))
