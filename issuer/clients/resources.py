"""Resources: the services that tokens are for, by URI (RFC 8707), as operators register them.

A client may request tokens for its own audiences, which are registered with it, and for every open resource.

Requests for tokens give the instant `now`: what was looked up within the last second is then not read again, nor that
a URI is not registered. Without it the database is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Boolean, Column, String, Table, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.clients.client import audience_among, matched
from issuer.clients.store import MEMORY, REMEMBERED_MOST
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable
from issuer.database.types import Instant, Scope
from issuer.errors import Refused
from issuer.urls import RESOURCE_MOST_CHARACTERS

resources = Table(
    "resources",
    metadata,
    # Equivalent spellings of a URI have the same value here.
    Column("matched", String(RESOURCE_MOST_CHARACTERS), primary_key=True),
    Column("uri", String(RESOURCE_MOST_CHARACTERS), nullable=False),
    Column("scope", Scope, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
)
# Built once: that takes longer than executing it.
_AMONG = select(resources).where(resources.c.matched.in_(bindparam("wanted", expanding=True)))


@dataclass(frozen=True)
class Resource:
    """A service that tokens are for."""

    uri: str
    """Its `aud`, as tokens spell it."""
    created_at: datetime
    scope: frozenset[str] = frozenset()
    """The scopes that its tokens may have; none: any."""
    is_open: bool = False
    """Whether every client may request tokens for it."""


@dataclass(frozen=True)
class _Seen:
    """What a URI named when it was looked up; None: nothing."""

    resource: Resource | None
    at: datetime


class Resources:
    """Stores resources, and decides which of them a client may request."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, _Seen] = {}

    def add(self, resource: Resource, *events: Event) -> None:
        """Store a new resource, with events; raise Refused if one with an equivalent URI is stored."""
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(resources).values({**vars(resource), "matched": matched(resource.uri)})
                )
                record(connection, *events)
        except IntegrityError:
            raise Refused(f"the resource {resource.uri} is registered; see: issuer resources list") from None
        self._seen.clear()

    def remove(self, uri: str, event: Event | None = None) -> bool:
        """Remove the resource with an equivalent URI; return whether there was one. The event gets its own URI."""
        gone = delete(resources).where(resources.c.matched == matched(uri)).returning(resources.c.uri)
        with self._database.write() as connection:
            removed = connection.scalar(gone)
            if event and removed is not None:
                record(connection, replace(event, detail=removed))
        self._seen.clear()
        return removed is not None

    def all(self) -> tuple[list[Resource], list[DatabaseDamaged]]:
        """Return all resources in the order of their URIs, and what is wrong with those that cannot be read."""
        with self._database.read() as connection:
            rows = connection.execute(select(resources).order_by(resources.c.uri)).all()
        return each_readable(rows, lambda row: _resource(checked(resources, row)))

    def spelled(self, uris: tuple[str, ...]) -> tuple[str, ...]:
        """Return the URIs as they are registered, for those that are; verifiers compare them exactly."""
        registered = {matched(each.uri): each.uri for each in self._find(uris)}
        return tuple(dict.fromkeys(registered.get(matched(uri), uri) for uri in uris))

    def audience(
        self, requested: tuple[str, ...], own: tuple[str, ...], now: datetime | None = None
    ) -> tuple[str, ...]:
        """Return the `aud` for the `requested` URIs, RFC 8707 section 2; raise InvalidTarget.

        They must be among the client's `own`, or open. Without any it is all the client's own.
        """
        known = {matched(each) for each in own}
        if all(matched(each) in known for each in requested):
            return audience_among(requested, own)
        return audience_among(requested, (*own, *self.opened(requested, now)))

    def opened(self, uris: tuple[str, ...], now: datetime | None = None) -> tuple[str, ...]:
        """Return the open resources among the URIs, as they are registered."""
        return tuple(each.uri for each in self._find(uris, now) if each.is_open)

    def allowed_scope(
        self, scope: frozenset[str], audience: Iterable[str], now: datetime | None = None
    ) -> frozenset[str]:
        """Return what of `scope` a token for all of `audience` may have: what is registered with one of them.

        Resources without registered scopes add nothing to those of others; alone, they allow any.
        """
        limits = [each.scope for each in self._find(audience, now) if each.scope]
        return scope & frozenset[str]().union(*limits) if limits else scope

    def _find(self, uris: Iterable[str], now: datetime | None = None) -> list[Resource]:
        keys = {matched(uri) for uri in uris if uri.isprintable() and len(uri) <= RESOURCE_MOST_CHARACTERS}
        found = self._recent(keys, now) if now else None
        if found is None:
            found = self._look_up(keys)
            if now:
                self._remember({key: _Seen(found.get(key), now) for key in keys})
        return list(found.values())

    def _look_up(self, keys: set[str]) -> dict[str, Resource]:
        with self._database.read() as connection:
            rows = connection.execute(_AMONG, {"wanted": sorted(keys)}).all()
        return {row.matched: _resource(checked(resources, row)) for row in rows}

    def _recent(self, keys: set[str], now: datetime) -> dict[str, Resource] | None:
        """Return the resources if all URIs were looked up within the last second, else None."""
        seen = {key: self._seen.get(key) for key in keys}
        if not all(each and timedelta(0) <= now - each.at < MEMORY for each in seen.values()):
            return None
        return {key: each.resource for key, each in seen.items() if each and each.resource}

    def _remember(self, seen: dict[str, _Seen]) -> None:
        if len(self._seen) >= REMEMBERED_MOST:
            self._seen.clear()
        self._seen.update(seen)


def _resource(values: dict[str, object]) -> Resource:
    del values["matched"]
    return Resource(**values)  # type: ignore[arg-type] # each value has the type of its column
