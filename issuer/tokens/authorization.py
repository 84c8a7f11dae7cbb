"""What a grant allows, and the claims of an access token (RFC 9068 section 2.2).

Signing is the work of `access_tokens`.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.oauth import format_scope
from issuer.tokens.refresh import NewFamily, Renewal

Claims = dict[str, str | int | list[str]]


@dataclass(frozen=True)
class Authorization:
    """The most that a grant allows: to which client, and in whose name; the pipeline narrows it."""

    subject: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    """The `aud` of a request that names no resource, and the resources that it may name."""
    username: str | None = None
    family: NewFamily | Renewal | None = None
    may_have_no_scope: bool = False
    """Whether nothing may remain of the scope. An error after a password was verified would tell that it is right,
    without a session that the owner of the account can see."""


def access_token_claims(
    authorization: Authorization, session: str | None, issuer: str, now: datetime, lifetime: timedelta
) -> Claims:
    """Return the claims of an access token, RFC 9068 section 2.2; `username` and `grant_id` only for a user.

    `grant_id` is the id of the session, in the sense of Grant Management for OAuth 2.0. `sid` is left to OpenID
    Connect, where it names a browser session at the issuer.
    """
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
        claims["grant_id"] = session
    return claims
