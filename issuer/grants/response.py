"""Responses of the token endpoint, before and after its tokens are signed; `web.oauth.token` writes them."""

from dataclasses import dataclass, field
from datetime import datetime

from issuer.keyring.key import Key
from issuer.sessions.session import SignIn
from issuer.tokens.authorization import Authorization
from issuer.tokens.identity import IdentityScope
from issuer.tokens.refresh import Family, RefreshRotation, Renewed


@dataclass(frozen=True)
class UnsignedTokenResponse:
    """The response to a granted request, without the tokens that are signed."""

    authorization: Authorization
    family: Family | None
    key: Key
    now: datetime
    renewed: Renewed | None = None
    """The refresh token, if there is one."""
    signed: "TokenResponse | None" = field(default=None, repr=False)
    """The response itself, if it had to be signed before."""

    @property
    def sign_in(self) -> SignIn | None:
        """What the id_token reports; None: the response has none.

        It needs the scope `openid` (OpenID Connect Core section 3.1.2.1) and a user who signed in with a browser.
        """
        is_requested = IdentityScope.OPENID in self.authorization.scope
        return self.family.sign_in if self.family and is_requested else None

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
    """A successful response, RFC 6749 section 5.1 and OpenID Connect Core section 3.1.3.3."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    kid: str
    """The key that signed the tokens."""
    client_id: str
    user_id: str | None
    """None: the client acts for itself."""
    id_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    is_repeat: bool = False
    """Whether a used refresh token was presented again and got the same successor."""
