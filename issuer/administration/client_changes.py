"""Changes of a registered client: which are accepted, what they change, and that none is lost to another.

The rules for values are those for new clients, in `clients`. What sessions hold beyond a narrowed client is found by
`client_sessions`.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, delete

from issuer.administration.clients import (
    PASSWORD_REFUSED,
    require_backchannel,
    require_claims,
    require_client_name,
    require_consistent,
    require_short,
    require_uris,
)
from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent_store import has_consent
from issuer.clients.client import Client
from issuer.clients.store import lock_client, update_client
from issuer.database.database import Database
from issuer.digests import digest
from issuer.oauth import AuthMethod, GrantType, InvalidRequest, ResponseType, format_scope

REPLACED = (
    "name",
    "audiences",
    "redirect_uris",
    "post_logout_redirect_uris",
    "is_trusted",
    "requires_pkce",
    "requires_par",
    "id_token_claims",
    "has_roles_claim",
)
"""What a change replaces as it is."""


UNSET = {"is_trusted": "no", "requires_pkce": "yes", "requires_par": "no", "has_roles_claim": "no"}
"""What a new client has without being asked for it, as texts."""

_IN_SUMMARY = ("scope", "audiences", "grant_types", "auth")


@dataclass(frozen=True)
class ClientChanges:
    """What to change of a client; None leaves a value as it is."""

    name: str | None = None
    scope: frozenset[str] | None = None
    added_scope: frozenset[str] = frozenset()
    removed_scope: frozenset[str] = frozenset()
    audiences: tuple[str, ...] | None = None
    jwks: str | None = None
    """Replaces `jwks_uri`, and the reverse."""
    jwks_uri: str | None = None
    grant_types: frozenset[GrantType] | None = None
    redirect_uris: tuple[str, ...] | None = None
    post_logout_redirect_uris: tuple[str, ...] | None = None
    backchannel_logout_uri: str | None = None
    """Empty: none."""
    is_trusted: bool | None = None
    requires_pkce: bool | None = None
    requires_par: bool | None = None
    id_token_claims: tuple[str, ...] | None = None
    has_roles_claim: bool | None = None


@dataclass(frozen=True)
class Difference:
    """A field of a client before and after a change, as texts; empty for nothing. Secrets are not shown."""

    field: str
    before: str
    after: str


def accepted(changes: ClientChanges) -> ClientChanges:
    """Return the changes as they are stored; raise InvalidRequest for a value that no client may have."""
    require_backchannel(changes.backchannel_logout_uri or None)
    if GrantType.PASSWORD in (changes.grant_types or ()):
        raise InvalidRequest(PASSWORD_REFUSED)
    return replace(
        changes,
        name=None if changes.name is None else require_client_name(changes.name),
        redirect_uris=_optional(require_uris, changes.redirect_uris),
        post_logout_redirect_uris=_optional(require_uris, changes.post_logout_redirect_uris),
        id_token_claims=_optional(require_claims, changes.id_token_claims),
    )


def _optional(
    require: Callable[[Iterable[str]], tuple[str, ...]], values: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    return None if values is None else require(values)


def changed(client: Client, changes: ClientChanges) -> Client:
    """Return `client` with changes; raise InvalidRequest or InvalidScope as for a new client."""
    changes = accepted(changes)
    scope = client.scope if changes.scope is None else changes.scope
    values = {name: value for name in REPLACED if (value := getattr(changes, name)) is not None}
    after = replace(
        client, scope=require_short((scope | changes.added_scope) - changes.removed_scope), **values
    )
    if changes.backchannel_logout_uri is not None:
        after = replace(after, backchannel_logout_uri=changes.backchannel_logout_uri or None)
    if changes.grant_types is not None:
        after = with_grants(after, changes.grant_types)
    if changes.jwks is not None or changes.jwks_uri is not None:
        if client.auth_method is not AuthMethod.PRIVATE_KEY_JWT:
            raise InvalidRequest(f"this client has no key set: it authenticates by {client.auth_method}")
        after = replace(after, jwks=changes.jwks, jwks_uri=changes.jwks_uri)
    require_consistent(after)
    return after


def with_grants(client: Client, grants: frozenset[GrantType]) -> Client:
    """Return `client` with other grants, and the response types that follow from them."""
    signs_in = GrantType.AUTHORIZATION_CODE in grants
    return replace(
        client, grant_types=grants, response_types=frozenset({ResponseType.CODE} if signs_in else ())
    )


def change_client(
    database: Database, client_id: str, changes: ClientChanges, now: datetime, event: Event | None = None
) -> tuple[Client, Client]:
    """Change a registered client; return it before and after. Changes of other commands meanwhile are kept.

    The event is recorded with what differs, and not if nothing does.
    Raise LookupError if it is not registered, and what `changed` raises.
    """
    with database.write() as connection:
        before = lock_client(connection, client_id)
        if before is None:
            raise LookupError(client_id)
        after = store_change(connection, before, changed(before, changes), now)
        if event and before != after:
            record(connection, replace(event, detail=summary(before, after)))
    return before, after


def store_change(connection: Connection, before: Client, after: Client, now: datetime) -> Client:
    """Store a change of a client that the transaction has locked, and return the client as it is stored.

    Codes are bounded by the client when they are redeemed. Those that a trusted client got without the consent of
    the user are deleted when it is trusted no longer.
    """
    if GrantType.REFRESH_TOKEN in before.grant_types - after.grant_types:
        after = replace(after, refresh_removed_at=now)
    update_client(connection, before, after)
    if before.is_trusted and not after.is_trusted:
        _void_codes_without_consent(connection, after.id)
    return after


def void_codes_without_consent(database: Database, client_id: str) -> None:
    """Delete unused codes of users who have not consented: requests may have stored some since a change."""
    with database.write() as connection:
        _void_codes_without_consent(connection, client_id)


def _void_codes_without_consent(connection: Connection, client_id: str) -> None:
    unused = authorization_codes.c.client_id == client_id, authorization_codes.c.used_at.is_(None)
    allowed = has_consent(client_id, authorization_codes.c.user_id)
    connection.execute(delete(authorization_codes).where(*unused, ~allowed))


def differences(before: Client | None, after: Client) -> list[Difference]:
    """Return what differs between two states of a client; for a new one, all that is set."""
    was = shown(before) if before else UNSET
    found = [
        Difference(name, was.get(name, ""), value)
        for name, value in shown(after).items()
        if value != was.get(name, "")
    ]
    if before and before.secret_digest != after.secret_digest:
        texts = ("set" if before.secret_digest else "", "replaced" if after.secret_digest else "removed")
        found.append(Difference("secret", *texts))
    elif before and before.old_secret_digest and not after.old_secret_digest:
        found.append(Difference("old secret", "set", "removed"))
    return found


def summary(before: Client, after: Client) -> str:
    """Return what an event says about a change: what the client may have now, and the names of other fields."""
    return "; ".join(
        f"{each.field} now: {each.after}" if each.field in _IN_SUMMARY else each.field
        for each in differences(before, after)
    )


def shown(client: Client) -> dict[str, str]:
    """Return what can be changed of a client, as texts, with the names of its JSON document."""
    return {
        "name": client.name,
        "auth": client.auth_method.value,
        "scope": format_scope(client.scope),
        "audiences": " ".join(client.audiences),
        "jwks": key_set_text(client.jwks),
        "jwks_uri": client.jwks_uri or "",
        "grant_types": " ".join(sorted(client.grant_types)),
        "redirect_uris": " ".join(client.redirect_uris),
        "post_logout_redirect_uris": " ".join(client.post_logout_redirect_uris),
        "backchannel_logout_uri": client.backchannel_logout_uri or "",
        "is_trusted": _yes_or_no(client.is_trusted),
        "requires_pkce": _yes_or_no(client.requires_pkce),
        "requires_par": _yes_or_no(client.requires_par),
        "id_token_claims": " ".join(client.id_token_claims),
        "has_roles_claim": _yes_or_no(client.has_roles_claim),
    }


def key_set_text(jwks: str | None) -> str:
    """Return the number of keys of a registered JWKS, and the beginning of its digest; empty for none."""
    if jwks is None:
        return ""
    keys = json.loads(jwks).get("keys", ())
    return f"{len(keys)} key{'s' * (len(keys) != 1)}, SHA-256 {digest(jwks).hex()[:16]}"


def narrows(before: Client, after: Client) -> bool:
    """Return whether sessions of a client may hold more after a change than it may have."""
    lost = before.scope - after.scope or before.grant_types - after.grant_types
    return bool(lost) or before.audiences != after.audiences or (before.is_trusted and not after.is_trusted)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
