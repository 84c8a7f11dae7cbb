"""Responses of the token endpoint, before and after the access token is signed; `web.oauth.token` writes them."""

from dataclasses import dataclass, field
from datetime import datetime

from issuer.keyring.key import Key
from issuer.tokens.authorization import Authorization


@dataclass(frozen=True)
class UnsignedTokenResponse:
    """A granted request: all that is stored is stored, and only the access token has to be signed."""

    authorization: Authorization
    session: str | None
    key: Key
    now: datetime
    refresh_token: str | None = field(default=None, repr=False)
    is_repeat: bool = False


@dataclass(frozen=True)
class TokenResponse:
    """A successful response, RFC 6749 section 5.1."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    kid: str
    """The key that signed the access token."""
    refresh_token: str | None = field(default=None, repr=False)
    is_repeat: bool = False
    """Whether a used refresh token was presented again and got the same successor."""
