"""The claims of the tokens that the issuer signs, as typed values.

Signing and verifying them is the work of `signed_jwt`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from issuer.oauth import format_scope
from issuer.tokens.authorization import Authorization


@dataclass(frozen=True)
class AccessTokenClaims:
    """The claims of an access token, RFC 9068 section 2.2; `username` and `grant_id` only for a user.

    `grant_id` is the id of the session, in the sense of Grant Management for OAuth 2.0. `sid` is left to OpenID
    Connect, where it names a browser session at the issuer.
    """

    iss: str
    sub: str
    aud: tuple[str, ...]
    client_id: str
    iat: int
    exp: int
    jti: str
    scope: str
    username: str | None = None
    grant_id: str | None = None

    @classmethod
    def issued(
        cls,
        authorization: Authorization,
        session: str | None,
        issuer: str,
        now: datetime,
        lifetime: timedelta,
    ) -> Self:
        """Return the claims of a new access token."""
        issued_at = int(now.timestamp())
        return cls(
            iss=issuer,
            sub=authorization.subject,
            aud=authorization.audience,
            client_id=authorization.client_id,
            iat=issued_at,
            exp=issued_at + int(lifetime.total_seconds()),
            jti=secrets.token_urlsafe(16),
            scope=format_scope(authorization.scope),
            username=authorization.username,
            grant_id=session,
        )

    @classmethod
    def parsed(cls, members: Mapping[str, Any]) -> Self:
        """Return the claims of a verified token; raise KeyError or TypeError for any other form."""
        audience = members["aud"]
        claims = cls(
            iss=members["iss"],
            sub=members["sub"],
            aud=(audience,) if isinstance(audience, str) else tuple(audience),
            client_id=members["client_id"],
            iat=members["iat"],
            exp=members["exp"],
            jti=members["jti"],
            scope=members.get("scope", ""),
            username=members.get("username"),
            grant_id=members.get("grant_id"),
        )
        texts = (claims.iss, claims.sub, *claims.aud, claims.client_id, claims.jti, claims.scope)
        optional = (claims.username, claims.grant_id)
        if not all(isinstance(each, str) for each in texts):
            raise TypeError("a claim is not a string")
        if not all(isinstance(each, str | None) for each in optional):
            raise TypeError("a claim is not a string")
        if not all(type(each) is int for each in (claims.iat, claims.exp)):
            raise TypeError("a claim is not a number")
        return claims

    @property
    def is_for_issuer(self) -> bool:
        """Whether the issuer is among the audiences: the token is accepted by its own endpoints."""
        return self.iss in self.aud

    def members(self) -> dict[str, str | int | list[str]]:
        """Return the JSON members of the token."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        return {**present, "aud": list(self.aud)}
