"""The bodies of the responses of the example service, as its OpenAPI document describes them.

Which endpoint sends them is defined in `app`.
"""

from typing import Self

from pydantic import BaseModel

from jwks_verifier import AccessToken


class Greeting(BaseModel):
    """The response of `/protected_route`."""

    message: str


class Claims(BaseModel):
    """The caller's claims, under their names in the token."""

    iss: str
    sub: str
    aud: list[str]
    client_id: str
    username: str | None = None
    scope: str
    iat: int | float  # NumericDate, RFC 7519 section 2
    exp: int | float
    jti: str

    @classmethod
    def of(cls, user: AccessToken) -> Self:
        """Return the claims of a verified token."""
        return cls(
            iss=user.issuer,
            sub=user.subject,
            aud=list(user.audience),
            client_id=user.client_id,
            username=user.username,
            scope=" ".join(sorted(user.scopes)),
            iat=user.issued_at,
            exp=user.expires_at,
            jti=user.jti,
        )


class Item(BaseModel):
    """A protected item."""

    id: int
    name: str


class Health(BaseModel):
    """The health of the service."""

    status: str
