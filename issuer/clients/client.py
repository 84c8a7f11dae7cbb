"""Clients: which grants, scope and audiences each may use, and its secrets.

Clients are stored by `store`, and authenticated by `authentication`.
"""

import hmac
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from issuer.digests import digest
from issuer.oauth import AuthMethod, GrantType, InvalidTarget, ResponseType, UnauthorizedClient
from issuer.urls import comparable

FIRST_PARTY_ID = "first-party"
SECRET_METHODS = frozenset({AuthMethod.BASIC, AuthMethod.POST})
"""The methods of clients that have a secret; such a client may send it either way."""


@dataclass(frozen=True)
class Client:
    """A registered client, RFC 6749 section 2."""

    id: str
    name: str
    auth_method: AuthMethod
    scope: frozenset[str]
    created_at: datetime | None
    """None: built in."""
    audiences: tuple[str, ...] = ()
    """The resources that it may request tokens for, RFC 8707; none: the default audience."""
    secret_digest: bytes | None = field(default=None, repr=False)
    old_secret_digest: bytes | None = field(default=None, repr=False)
    """The secret before; valid until `old_secret_until`."""
    old_secret_until: datetime | None = None
    jwks: str | None = field(default=None, repr=False)
    """The public keys of a client that signs assertions, as a JWKS (RFC 7517 section 5); or else `jwks_uri`."""
    jwks_uri: str | None = None
    disabled_at: datetime | None = None
    grant_types: frozenset[GrantType] = frozenset()
    refresh_removed_at: datetime | None = None
    """When the grant `refresh_token` was last taken away: sessions that began before have refresh tokens."""
    response_types: frozenset[ResponseType] = frozenset()
    redirect_uris: tuple[str, ...] = ()
    """Where the authorization endpoint may return to: compared as they are, RFC 9700 section 4.1.3."""
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str | None = None
    is_trusted: bool = False
    """Whether users are not asked for consent."""
    requires_pkce: bool = True
    """False: set by --no-pkce, until it uses PKCE."""
    requires_par: bool = False
    """Whether its authorization requests must be pushed, RFC 9126 section 5."""
    id_token_claims: tuple[str, ...] = ()
    """The claims about the user that its id_tokens have as well, for applications that do not ask userinfo."""
    has_roles_claim: bool = False
    """Whether its access tokens name the roles of the user, RFC 9068 section 2.2.3.1."""

    def with_new_secret(self, secret: str, now: datetime, overlap: timedelta) -> Self:
        """Return the client with another secret; the old one stays valid for `overlap`."""
        return self.with_secret_digest(digest(secret), now, overlap)

    def with_secret_digest(self, newest: bytes, now: datetime, overlap: timedelta) -> Self:
        """Return the client with the secret of a digest; the old one stays valid for `overlap`."""
        old = self.secret_digest if overlap else None
        until = now + overlap if old else None
        return replace(self, secret_digest=newest, old_secret_digest=old, old_secret_until=until)

    @property
    def is_confidential(self) -> bool:
        """Whether it can prove its identity, RFC 6749 section 2.1."""
        return self.auth_method is not AuthMethod.NONE

    def require_grant(self, grant_type: GrantType) -> None:
        """Raise UnauthorizedClient unless this client may use `grant_type`.

        A public client may never use `client_credentials`, RFC 6749 section 4.4: it proves nothing.
        """
        is_unproven = grant_type is GrantType.CLIENT_CREDENTIALS and not self.is_confidential
        if grant_type not in self.grant_types or is_unproven:
            raise UnauthorizedClient(f"this client may not use the grant {grant_type}")

    def audience_for(self, resources: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        """Return the `aud` for the requested `resources`, RFC 8707 section 2; raise InvalidTarget."""
        return audience_among(resources, self.audiences or default)


def audience_among(resources: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the `allowed` audiences the `resources` name, all if there are none; raise InvalidTarget."""
    equivalent = {matched(audience): audience for audience in reversed(allowed)}
    found = [each if each in allowed else equivalent.get(matched(each)) for each in resources]
    if None in found:
        raise InvalidTarget
    # As registered: verifiers compare it exactly.
    return tuple(dict.fromkeys(filter(None, found))) or allowed


def matched(resource: str) -> str:
    """Return what equivalent spellings of a resource have in common; a last slash of a URL is left out.

    Clients take the URL that a user typed, with or without that slash.
    """
    return comparable(resource).removesuffix("/") if resource[:4].lower() == "http" else resource


def default_grants(auth_method: AuthMethod, *, has_redirect_uri: bool = False) -> frozenset[GrantType]:
    """Return the grants of a new client: for users with a redirect URI, else `client_credentials` if it has proof."""
    if has_redirect_uri:
        return frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN})
    if auth_method is AuthMethod.NONE:
        return frozenset({GrantType.REFRESH_TOKEN})
    return frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN})


FIRST_PARTY = Client(
    id=FIRST_PARTY_ID,
    name="first-party log-in",
    auth_method=AuthMethod.NONE,
    scope=frozenset(),
    created_at=None,
    grant_types=frozenset({GrantType.PASSWORD, GrantType.REFRESH_TOKEN}),
)
"""The built-in public client behind `/login`."""


def new_secret() -> str:
    """Return a client secret of 256 random bits."""
    return secrets.token_urlsafe(32)


NO_CLIENT_DIGEST = digest(new_secret())
"""Compared with when the client is unknown, which then costs the same as a wrong secret."""


def secret_matches(client: Client | None, secret: str, now: datetime) -> bool:
    """Return whether `secret` is the client's, in constant time, also for an unknown client."""
    given = digest(secret)
    newest = client.secret_digest if client else None
    old = client.old_secret_digest if client and (client.old_secret_until or now) > now else None
    matches = [hmac.compare_digest(each or NO_CLIENT_DIGEST, given) for each in (newest, old)]
    return any(matches)
