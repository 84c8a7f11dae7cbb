"""The claims of the tokens that the issuer signs, as typed values.

Signing and verifying them is the work of `signed_jwt`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Self

from issuer.oauth import format_scope
from issuer.tokens.authorization import Authorization
from issuer.tokens.refresh import Family


@dataclass(frozen=True)
class AccessTokenClaims:
    """The claims of an access token, RFC 9068 section 2.2; `username` and `grant_id` only for a user.

    `grant_id` is the id of the session, in the sense of Grant Management for OAuth 2.0. `sid` is that of OpenID
    Connect: it names the browser session at the issuer that the user signed in with, if there is one.
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
    sid: str | None = None
    further: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Members of their own, which never take the place of another: those of `further_claims`, and for clients that
    are registered so `roles`, section 2.2.3.1."""

    @classmethod
    def issued(
        cls,
        authorization: Authorization,
        family: Family | None,
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
            grant_id=family.id if family else None,
            sid=family.sid if family else None,
            further={**authorization.further_claims, **_roles(authorization)},
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
            sid=members.get("sid"),
            further={name: value for name, value in members.items() if name not in _ACCESS_TOKEN_CLAIMS},
        )
        _require_texts(claims.iss, claims.sub, *claims.aud, claims.client_id, claims.jti, claims.scope)
        _require_texts(*(each for each in (claims.username, claims.grant_id, claims.sid) if each is not None))
        _require_numbers(claims.iat, claims.exp)
        return claims

    @property
    def is_for_issuer(self) -> bool:
        """Whether the issuer is among the audiences: the token is accepted by its own endpoints."""
        return self.iss in self.aud

    def members(self) -> dict[str, Any]:
        """Return the JSON members of the token."""
        own = {name: value for name in _ACCESS_TOKEN_CLAIMS if (value := getattr(self, name)) is not None}
        return {**self.further, **own, "aud": list(self.aud)}


def _roles(authorization: Authorization) -> dict[str, list[str]]:
    return {} if authorization.roles is None else {"roles": sorted(authorization.roles)}


_ACCESS_TOKEN_CLAIMS = tuple(each.name for each in fields(AccessTokenClaims) if each.name != "further")


@dataclass(frozen=True)
class IdTokenClaims:
    """The claims of an id_token, OpenID Connect Core section 2; most clients ask `userinfo` about the user.

    `aud` is the client alone, so that there is no `azp`. `at_hash` is that of section 3.1.3.6.
    """

    iss: str
    sub: str
    aud: str
    exp: int
    iat: int
    auth_time: int
    sid: str
    acr: str
    amr: tuple[str, ...]
    at_hash: str
    nonce: str | None = None
    about_user: Mapping[str, str | bool | int] = field(default_factory=dict)
    """Members of their own, for a client that is registered so; not read back."""

    @classmethod
    def parsed(cls, members: Mapping[str, Any]) -> Self:
        """Return the claims of a verified token; raise KeyError or TypeError for any other form."""
        claims = cls(
            iss=members["iss"],
            sub=members["sub"],
            aud=members["aud"],
            exp=members["exp"],
            iat=members["iat"],
            auth_time=members["auth_time"],
            sid=members["sid"],
            acr=members["acr"],
            amr=tuple(members["amr"]),
            at_hash=members["at_hash"],
            nonce=members.get("nonce"),
        )
        _require_texts(
            claims.iss, claims.sub, claims.aud, claims.sid, claims.acr, *claims.amr, claims.at_hash
        )
        _require_texts(*(() if claims.nonce is None else (claims.nonce,)))
        _require_numbers(claims.exp, claims.iat, claims.auth_time)
        return claims

    def members(self) -> dict[str, str | int | tuple[str, ...]]:
        """Return the JSON members of the token."""
        own = {name: value for name in ID_TOKEN_CLAIMS if (value := getattr(self, name)) is not None}
        return {**self.about_user, **own}


ID_TOKEN_CLAIMS = tuple(each.name for each in fields(IdTokenClaims) if each.name != "about_user")


def _require_texts(*values: object) -> None:
    if not all(isinstance(each, str) for each in values):
        raise TypeError("a claim is not a string")


def _require_numbers(*values: object) -> None:
    if not all(type(each) is int for each in values):
        raise TypeError("a claim is not a number")
