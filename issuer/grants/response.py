"""Responses of the token endpoint, before and after the access token is signed; `web.oauth.token` writes them."""

from dataclasses import dataclass, field
from datetime import datetime

from issuer.keyring.key import Key
from issuer.tokens.authorization import Authorization
from issuer.tokens.refresh import RefreshRotation, Renewed


@dataclass(frozen=True)
class UnsignedTokenResponse:
    """The response to a granted request, without the signature of the access token."""

    authorization: Authorization
    session: str | None
    key: Key
    now: datetime
    renewed: Renewed | None = None
    """The refresh token, if there is one."""

    @property
    def rotation(self) -> RefreshRotation | None:
        """What has to be stored before the response is sent; None: nothing."""
        return self.renewed.rotation if self.renewed else None

    @property
    def refresh_token(self) -> str | None:
        """The refresh token, if there is one."""
        return self.renewed.token if self.renewed else None


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
