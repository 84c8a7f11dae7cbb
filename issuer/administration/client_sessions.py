"""The sessions of a client, for operators: how many there are, which hold more than it may have, and ending them.

What a client may have is decided in `tokens.entitlements`; refreshes are bounded by it in any case.
"""

import json
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Text, exists, func, select, type_coerce, update

from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.authorize.consent_store import has_consent
from issuer.clients.client import Client
from issuer.clients.store import MEMORY
from issuer.database.database import Database
from issuer.database.engines import lift_time_limits
from issuer.database.rows import batched
from issuer.oauth import GrantType, InvalidScope, parse_scope
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.refresh_rotation import families, refresh_tokens


def count_sessions(database: Database, client_id: str, now: datetime) -> int:
    """Return how many sessions of a client have not ended, and have a refresh token that has not expired."""
    usable = exists().where(refresh_tokens.c.family_id == families.c.id, refresh_tokens.c.expires_at > now)
    counted = select(func.count()).select_from(families).where(*active(client_id, now), usable)
    with database.snapshot() as connection:
        lift_time_limits(connection)
        return connection.scalar(counted) or 0


def active(client_id: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the sessions of a client that have not ended."""
    return families.c.client_id == client_id, families.c.ended_at.is_(None), families.c.expires_at > now


def count_exceeding(
    database: Database, client: Client, before: Client, entitlements: Entitlements, now: datetime
) -> int:
    """Return how many sessions hold more than `client` may have; `before` is what it was."""
    with database.snapshot() as connection:
        lift_time_limits(connection)
        return len(_exceeding(connection, client, before, entitlements, now))


def end_exceeding(
    database: Database,
    client: Client,
    before: Client,
    entitlements: Entitlements,
    now: datetime,
    event: Event | None = None,
) -> int:
    """End the sessions that hold more than `client` may have, and return how many there were.

    The event is recorded with their number, if there were any.
    """
    ended = 0
    with database.write() as connection:
        lift_time_limits(connection)
        # In the order of their ids, so that two commands never wait for each other.
        for some in batched(_exceeding(connection, client, before, entitlements, now)):
            theirs = update(families).where(families.c.id.in_(some), *active(client.id, now))
            ended += connection.execute(theirs.values(ended_at=now)).rowcount
        if event and ended:
            record(connection, replace(event, detail=f"{ended} sessions"))
    return ended


def _exceeding(
    connection: Connection, client: Client, before: Client, entitlements: Entitlements, now: datetime
) -> list[str]:
    """Return the ids of sessions that hold more than a client may have."""
    theirs = active(client.id, now)
    if _has_lost_its_sessions(client, before):
        return sorted(connection.scalars(select(families.c.id).where(*theirs)))
    found: set[str] = set()
    if client.refresh_removed_at and GrantType.REFRESH_TOKEN not in client.grant_types:
        # Processes know that the grant was taken away after `MEMORY` at the latest.
        refreshed = families.c.created_at <= client.refresh_removed_at + MEMORY
        found.update(connection.scalars(select(families.c.id).where(*theirs, refreshed)))
    # As they are stored: what is damaged is found as well.
    scopes, audiences = type_coerce(families.c.scope, Text), type_coerce(families.c.audience, Text)
    held = connection.execute(select(scopes, audiences).where(*theirs).distinct()).all()
    for scope, audience in held:
        if _is_more(client, scope, audience, entitlements):
            same = scopes == scope, audiences == audience
            found.update(connection.scalars(select(families.c.id).where(*theirs, *same)))
    if not client.is_trusted:
        unasked = select(families.c.id).where(*theirs, ~has_consent(client.id, families.c.user_id))
        found.update(connection.scalars(unasked))
    return sorted(found)


def _has_lost_its_sessions(client: Client, before: Client) -> bool:
    may_not_sign_in = GrantType.AUTHORIZATION_CODE not in client.grant_types
    return may_not_sign_in or GrantType.REFRESH_TOKEN in before.grant_types - client.grant_types


def _is_more(client: Client, scope: str, audience: str, entitlements: Entitlements) -> bool:
    """Return whether a stored scope and audience are more than a client may have; damaged ones are."""
    try:
        resources = tuple(str(each) for each in json.loads(audience))
        return entitlements.holds_more(client, parse_scope(scope), resources)
    except (ValueError, TypeError, InvalidScope):
        return True
