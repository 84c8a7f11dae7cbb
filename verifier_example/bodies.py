"""The bodies of the responses of the example service, as its OpenAPI document describes them.

Which endpoint sends them is defined in `app`.
"""

from typing import Self

from pydantic import BaseModel, Field

from jwks_verifier import AccessToken


class Greeting(BaseModel):
    """The response of `/protected_route`."""

    message: str = Field(examples=["Hello, alice"])


class Claims(BaseModel):
    """The caller's claims, under their names in the token."""

    iss: str = Field(examples=["https://issuer.example"])
    sub: str = Field(examples=["4b08ddb0-3cb8-4a22-ae67-e4adf1287f68"])
    aud: list[str] = Field(examples=[["https://api.example"]])
    client_id: str = Field(examples=["first-party"])
    username: str | None = Field(None, examples=["alice"])
    scope: str = Field(examples=["items:read"])
    iat: int | float = Field(examples=[1769860800])  # NumericDate, RFC 7519 section 2
    exp: int | float = Field(examples=[1769861400])
    jti: str = Field(examples=["BIqGtpj96tRGzp9riuNOig"])

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

    id: int = Field(examples=[1])
    name: str = Field(examples=["a first item"])


class Health(BaseModel):
    """The health of the service."""

    status: str = Field(examples=["ready"])
