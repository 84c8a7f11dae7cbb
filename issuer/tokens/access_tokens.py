"""Access tokens, RFC 9068: issued for an authorization, and verified when the issuer itself receives one.

Which authorization a request gets is decided by the grants. Keys and signatures are the work of `signed_jwt`.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from issuer.keyring.key import Key
from issuer.oauth import InvalidToken
from issuer.tokens.authorization import Authorization
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.refresh import Family
from issuer.tokens.signed_jwt import ACCESS_TOKEN, JwtSigner


@dataclass(frozen=True)
class AccessToken:
    """A signed token and its life in seconds."""

    text: str = field(repr=False)
    expires_in: int


class AccessTokens:
    """Issues and verifies access tokens."""

    def __init__(self, jwt_signer: JwtSigner, *, has_username: bool = True) -> None:
        self._signer = jwt_signer
        self._has_username = has_username

    def signing_key(self, now: datetime) -> Key:
        """Return the key that signs; raise Unavailable when this node may not, or cannot, sign."""
        return self._signer.signing_key(now)

    def sign(
        self, authorization: Authorization, family: Family | None, key: Key, now: datetime
    ) -> AccessToken:
        """Return an access token that expires before its key is withdrawn; raise Unavailable."""
        lifetime = self._signer.lifetime(key)
        if not self._has_username:
            authorization = replace(authorization, username=None)
        claims = AccessTokenClaims.issued(authorization, family, self._signer.issuer, now, lifetime)
        text = self._signer.sign(ACCESS_TOKEN, claims.members(), key)
        return AccessToken(text, int(lifetime.total_seconds()))

    def verify(self, token: str, now: datetime, *, for_issuer: bool = False) -> AccessTokenClaims:
        """Return the claims of a valid token; raise InvalidToken, with one text for every reason but its age.

        With `for_issuer`, `aud` must hold the issuer's own URL.
        """
        try:
            claims = AccessTokenClaims.parsed(
                self._signer.verify(ACCESS_TOKEN, token, now, for_issuer=for_issuer)
            )
        except (ValueError, KeyError, TypeError):
            raise InvalidToken from None
        if claims.exp <= now.timestamp():
            raise InvalidToken("the access token has expired")
        return claims
