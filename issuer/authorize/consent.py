"""Consent: what a user has allowed a client, and whether a request needs to ask for more.

Consents are stored by `consent_store`; the words for scopes are in `scope_texts`, the page is `web.pages.consent`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from issuer.authorize.request import AuthorizationRequest, Prompt
from issuer.clients.client import Client
from issuer.digests import named
from issuer.oauth import AuthMethod
from issuer.tokens.identity import scopes_of_claims
from issuer.urls import BadURL, is_loopback, origin_of

NO_RESOURCE = ""
"""The resource of a consent to a request that named none."""
CLOCKS_DIFFER = timedelta(hours=1)
"""How far in the future a consent may seem to be given; further, it was stored by a clock that was wrong."""


class Place(StrEnum):
    """Where a redirect URI leads, RFC 8252 section 7."""

    SITE = "site"
    LOOPBACK = "loopback"
    """A program on the user's computer: any program can listen on a port there."""
    PRIVATE_SCHEME = "private scheme"
    """A program that is registered for a scheme: any program can register for it."""


@dataclass(frozen=True)
class Destination:
    """Where the browser goes after consent."""

    place: Place
    name: str
    """The host and port of a site, the scheme of a program, and nothing for loopback."""


class ConsentReason(StrEnum):
    """Why a user is asked."""

    FIRST = "first"
    CLIENT_CHANGED = "client changed"
    """The client has another name, or the browser goes to another host."""
    MORE_RESOURCES = "more resources"
    MORE_SCOPE = "more scope"
    REQUESTED = "requested"
    """The client sent `prompt=consent`."""
    UNPROVEN_CLIENT = "unproven client"
    """Any program can pretend to be this client, RFC 8252 section 8.6."""


@dataclass(frozen=True)
class Consent:
    """What a user has allowed a client at one resource."""

    user_id: str
    client_id: str
    resource: str
    """As requested; `NO_RESOURCE` if no resource was named."""
    scope: frozenset[str]
    given_at: datetime
    shown: bytes = field(repr=False)
    """The digest of what the user was shown of the client: see `shown`."""


@dataclass(frozen=True)
class ConsentState:
    """Whether a request needs the consent of the user, and why."""

    reason: ConsentReason | None = None
    given_at: datetime | None = None
    """When the user last allowed something of what is requested; None: never."""
    new: frozenset[str] = frozenset()
    """The scopes that the user has not allowed before."""

    @property
    def needed(self) -> bool:
        """Whether the user must be asked."""
        return self.reason is not None


def destination(redirect_uri: str) -> Destination:
    """Return where a redirect URI leads; hosts are in ASCII, so that none looks like another."""
    try:
        host = origin_of(redirect_uri).partition("://")[2]
    except BadURL:
        return Destination(Place.PRIVATE_SCHEME, redirect_uri.partition(":")[0].lower())
    return Destination(Place.LOOPBACK, "") if is_loopback(redirect_uri) else Destination(Place.SITE, host)


def shown(client: Client, redirect_uri: str) -> bytes:
    """Return the digest of what a user sees of a client: if it changes, earlier consent does not count."""
    to = destination(redirect_uri)
    return named("shown", client.name, to.place, to.name)


def is_unproven(client: Client, redirect_uri: str) -> bool:
    """Return whether any program can pretend to be this client: it has no secret, and its redirect no owner."""
    return client.auth_method is AuthMethod.NONE and destination(redirect_uri).place is not Place.SITE


def resources_of(request: AuthorizationRequest) -> tuple[str, ...]:
    """Return the resources that consent to a request is stored for."""
    return request.resources or (NO_RESOURCE,)


def scope_to_allow(request: AuthorizationRequest, scope: frozenset[str]) -> frozenset[str]:
    """Return what users are asked to allow: `scope`, and the scopes of claims that were requested by name.

    Claims could be had without their scope otherwise, OpenID Connect Core section 5.5.
    """
    return scope | scopes_of_claims(request.userinfo_claims)


def needs_fresh(request: AuthorizationRequest) -> ConsentReason | None:
    """Return why only a consent counts that was given since the request began; None: an earlier one counts."""
    if Prompt.CONSENT in request.prompt:
        return ConsentReason.REQUESTED
    if is_unproven(request.client, request.returns_to.redirect_uri):
        return ConsentReason.UNPROVEN_CLIENT
    return None


def consent_state(
    request: AuthorizationRequest,
    scope: frozenset[str],
    given: Iterable[Consent],
    started: datetime,
    now: datetime,
) -> ConsentState:
    """Decide whether `scope` needs consent; `given` are the user's consents to this client.

    `started` is when the request began: after that it may have been given for this very request.

    Users are never asked about a trusted client.
    """
    if request.client.is_trusted:
        return ConsentState()
    wanted = resources_of(request)
    found = [consent for consent in given if consent.resource in wanted]
    if not found:
        return ConsentState(ConsentReason.FIRST, new=scope)
    allowed = frozenset.intersection(*(consent.scope for consent in found))
    is_fresh = all(started <= consent.given_at <= now + CLOCKS_DIFFER for consent in found)
    reason = _reason(request, scope - allowed, found, is_fresh=is_fresh)
    return ConsentState(reason, max(consent.given_at for consent in found), scope - allowed)


def _reason(
    request: AuthorizationRequest, new: frozenset[str], found: list[Consent], *, is_fresh: bool
) -> ConsentReason | None:
    now_shown = shown(request.client, request.returns_to.redirect_uri)
    if any(consent.shown != now_shown for consent in found):
        return ConsentReason.CLIENT_CHANGED
    if len(found) < len(set(resources_of(request))):
        return ConsentReason.MORE_RESOURCES
    if new:
        return ConsentReason.MORE_SCOPE
    return None if is_fresh else needs_fresh(request)


def consent_to(
    request: AuthorizationRequest,
    user_id: str,
    resource: str,
    scope: frozenset[str],
    at: datetime,
    before: Consent | None,
) -> Consent:
    """Return the consent to store when a user allows `scope`; `before` is what is stored for the resource.

    It adds to what was allowed before, unless that was for a client that looked different. Of a request that needs
    fresh consent only what was allowed now is kept: the rest must not seem to be given now as well.
    """
    now_shown = shown(request.client, request.returns_to.redirect_uri)
    adds = before is not None and before.shown == now_shown and needs_fresh(request) is None
    kept = before.scope if before is not None and adds else frozenset()
    return Consent(user_id, request.client.id, resource, scope | kept, at, now_shown)
