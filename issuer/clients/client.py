"""Clients: who may ask for tokens, by which grants, for which scope and audiences.

How a client is kept belongs to `store`; how its secret travels, to `authentication`.
"""

import hmac
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from issuer.digests import digest
from issuer.oauth import AuthMethod, GrantType, InvalidTarget, UnauthorizedClient
from issuer.urls import comparable

FIRST_PARTY_ID = "first-party"


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
    """The resources it may ask tokens for, RFC 8707; none means the default audience."""
    secret_digest: bytes | None = field(default=None, repr=False)
    old_secret_digest: bytes | None = field(default=None, repr=False)
    """The secret before; it counts until `old_secret_until`."""
    old_secret_until: datetime | None = None
    jwks: str | None = field(default=None, repr=False)
    """The public keys of a client that signs assertions, as JSON (RFC 7517 section 5); or else `jwks_uri`."""
    jwks_uri: str | None = None
    disabled_at: datetime | None = None

    @property
    def grant_types(self) -> frozenset[GrantType]:
        """Allowed grants.

        `password` for the built-in first-party client only, `client_credentials` for confidential clients only (RFC
        6749 section 4.4).
        """
        if self.id == FIRST_PARTY_ID:
            return frozenset({GrantType.PASSWORD, GrantType.REFRESH_TOKEN})
        if self.auth_method is AuthMethod.NONE:
            return frozenset({GrantType.REFRESH_TOKEN})
        return frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN})

    def with_new_secret(self, secret: str, now: datetime, overlap: timedelta) -> Self:
        """Return the client with another secret; the old one stays valid for `overlap`."""
        old = self.secret_digest if overlap else None
        until = now + overlap if old else None
        return replace(self, secret_digest=digest(secret), old_secret_digest=old, old_secret_until=until)

    def require_grant(self, grant_type: GrantType) -> None:
        """Raise UnauthorizedClient unless this client may use `grant_type`."""
        if grant_type not in self.grant_types:
            raise UnauthorizedClient(f"this client may not use the grant {grant_type}")

    def audience_for(self, resources: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        """Return the `aud` for the `resources` asked for, RFC 8707 section 2; raise InvalidTarget otherwise."""
        allowed = self.audiences or default
        equivalent = {comparable(audience): audience for audience in reversed(allowed)}
        found = [each if each in allowed else equivalent.get(comparable(each)) for each in resources]
        if None in found:
            raise InvalidTarget("this client may not request tokens for that resource")
        return tuple(dict.fromkeys(filter(None, found))) or allowed  # as verifiers compare it: to the letter


FIRST_PARTY = Client(FIRST_PARTY_ID, "first-party log-in", AuthMethod.NONE, frozenset(), None)
"""The built-in public client behind `/login`."""


def new_secret() -> str:
    """Return a client secret of 256 random bits."""
    return secrets.token_urlsafe(32)


NO_CLIENT_DIGEST = digest(new_secret())
"""Compared against when the client is unknown, so that it costs the same as a wrong secret."""


def secret_matches(client: Client | None, secret: str, now: datetime) -> bool:
    """Whether `secret` is the client's, in constant time, an unknown client included."""
    given = digest(secret)
    newest = client.secret_digest if client else None
    old = client.old_secret_digest if client and (client.old_secret_until or now) > now else None
    matches = [hmac.compare_digest(each or NO_CLIENT_DIGEST, given) for each in (newest, old)]
    return any(matches)
