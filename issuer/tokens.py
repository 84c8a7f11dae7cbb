"""Tokens: an authorization turned into claims, and the life of a refresh-token family, as pure functions.

Signing is `signing`'s work, keeping families `store.families`'.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from issuer.oauth import InvalidGrant, format_scope

REFRESH_GRACE = timedelta(seconds=30)
"""How long a used refresh token still yields its successor: two tabs, or a response lost on the way."""

Claims = dict[str, str | int | list[str]]


@dataclass(frozen=True)
class Family:
    """All refresh tokens that descend from one log-in; it ends as a whole."""

    id: str
    user_id: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    """The absolute end; each token's own life is the idle limit."""
    ended_at: datetime | None = None
    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True)
class RefreshToken:
    """What is stored of one refresh token; the token itself never is."""

    digest: bytes = field(repr=False)
    family_id: str
    expires_at: datetime
    successor_seed: bytes = field(repr=False)
    """With the token, and only with it, this yields the successor; on its own it is noise."""
    used_at: datetime | None = None


@dataclass(frozen=True)
class NewFamily:
    """A log-in that starts a family, as long as the password that was verified is still the user's."""

    verified_hash: str = field(repr=False)
    better_hash: str | None = field(repr=False)
    """To keep in place of `verified_hash`, if that is of an older scheme."""


@dataclass(frozen=True)
class Renewal:
    """Use up `token` and hand out its successor; the same one again for a repeat."""

    presented: str = field(repr=False)
    token: RefreshToken
    family: Family
    repeat: bool


@dataclass(frozen=True)
class Authorization:
    """What a grant allows at most: who is spoken for, to which client; the pipeline narrows it."""

    subject: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    """The `aud` of a request that names no resource, and the resources that it may name."""
    username: str | None = None
    family: NewFamily | Renewal | None = None


def access_token_claims(
    authorization: Authorization, session: str | None, issuer: str, now: datetime, lifetime: timedelta
) -> Claims:
    """Return the claims of an access token, RFC 9068 section 2.2; `username` and `sid` only for a user."""
    issued_at = int(now.timestamp())
    claims: Claims = {
        "iss": issuer,
        "sub": authorization.subject,
        "aud": list(authorization.audience),
        "client_id": authorization.client_id,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "jti": secrets.token_urlsafe(16),
        "scope": format_scope(authorization.scope),
    }
    if authorization.username is not None:
        claims["username"] = authorization.username
    if session is not None:
        claims["sid"] = session
    return claims


class Redemption(StrEnum):
    """What presenting a refresh token leads to."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    """Used within the grace window: the same successor again."""
    REUSE = "reuse"
    """Used before that: stolen, or kept by mistake. The family ends."""


def redemption(token: RefreshToken, family: Family, now: datetime) -> Redemption:
    """Decide what presenting `token` leads to, RFC 9700 section 4.14.2; raise InvalidGrant for a dead one."""
    if family.ended_at is not None or family.expires_at <= now:
        raise InvalidGrant("the session has ended; log in again")
    if token.used_at is not None:
        return Redemption.REPEAT if now - token.used_at <= REFRESH_GRACE else Redemption.REUSE
    if token.expires_at <= now:
        raise InvalidGrant("the refresh token has expired; log in again")
    return Redemption.ROTATE


def new_refresh_token() -> str:
    """Return the first refresh token of a family: 256 random bits."""
    return secrets.token_urlsafe(32)


def refresh_token_digest(token: str) -> bytes:
    """Return what a refresh token is looked up by: a plain fast hash, as there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def successor(token: str, seed: bytes) -> str:
    """Return the token after `token`: a keyed hash under the token itself, so only its holder can tell it.

    A lost response can thus be answered again, while nothing usable is stored.
    """
    mac = hmac.digest(token.encode("utf-8", "surrogatepass"), seed, "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def stored(token: str, family: Family, now: datetime, idle: timedelta) -> RefreshToken:
    """Return the record to keep of a newly issued `token`; it never outlives its family."""
    expires_at = min(now + idle, family.expires_at)
    return RefreshToken(refresh_token_digest(token), family.id, expires_at, secrets.token_bytes(32))
