"""JWTs signed by the key ring: one row for each type of token, how each is signed, and how it is verified here.

Their claims are defined in `claims`. Other services verify through the JWKS, see `jwks_verifier`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from jwt.utils import base64url_encode
from pydantic_core import to_json

from issuer.clients.key_sets import CryptoPublicKey
from issuer.errors import KeyUnavailable, StaleView
from issuer.jose import MALFORMED, timeless
from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
from issuer.keyring.ring import PUBLISHED
from issuer.keyring.view import View
from issuer.oauth import Unavailable
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer

TOKEN_MOST_CHARACTERS = 8192


@dataclass(frozen=True)
class TokenType:
    """A type of token: the `typ` of its header, so that none passes for another, and its required claims."""

    typ: str
    required: tuple[str, ...]


ACCESS_TOKEN = TokenType("at+jwt", ("iss", "sub", "aud", "exp", "iat", "jti", "client_id"))
"""RFC 9068 section 2."""
ID_TOKEN = TokenType("JWT", ("iss", "sub", "aud", "exp", "iat", "auth_time", "acr", "amr", "at_hash", "sid"))
"""OpenID Connect Core section 2; `typ` is that of RFC 7519 section 5.1."""
LOGOUT_TOKEN = TokenType("logout+jwt", ("iss", "sub", "aud", "exp", "iat", "jti", "events", "sid"))
"""OpenID Connect Back-Channel Logout section 2.4; here both `sub` and `sid` are always present."""


class JwtSigner:
    """Signs tokens by the node's view of the key ring, and verifies its own."""

    def __init__(self, signer: Signer, view: Callable[[], View], policy: Policy, issuer: str) -> None:
        self._signer = signer
        self._view = view
        self._policy = policy
        self.issuer = issuer

    def signing_key(self, now: datetime) -> Key:
        """Return the key that signs; raise Unavailable when this node may not, or cannot, sign."""
        try:
            return self._view().signing_key(self._policy, now)
        except (StaleView, KeyUnavailable) as error:
            raise _cannot_sign() from error

    def lifetime(self, key: Key, most: timedelta = timedelta.max) -> timedelta:
        """Return how long a token of `key` is valid: `most`, but no longer than the ring publishes the key for it.

        The ring keeps a replaced key for the lifetime of access tokens. That covers every type of token, as each gets
        its lifetime here: under a short ISSUER_ACCESS_TOKEN_LIFETIME, the others expire as early as access tokens.
        """
        return min(self._policy.token_lifetime, key.token_lifetime, most)

    def sign(self, token_type: TokenType, claims: Mapping[str, Any], key: Key) -> str:
        """Return a signed token; raise Unavailable."""
        signed = _header(key.alg, key.kid, token_type.typ) + b"." + base64url_encode(to_json(claims))
        try:
            signature = self._signer.sign(key.kid, signed)
        except KeyUnavailable as error:  # the key was revoked after it was chosen
            raise _cannot_sign() from error
        return (signed + b"." + base64url_encode(signature)).decode()

    def verify(
        self, token_type: TokenType, token: str, now: datetime, *, for_issuer: bool = False
    ) -> dict[str, Any]:
        """Return the claims of a token that a published key signed; raise ValueError. The caller checks `exp`.

        With `for_issuer`, `aud` must hold the issuer's own URL.
        """
        audience = self.issuer if for_issuer else None
        return self.verify_by(lambda kid: self._published(kid, now), token_type, token, audience)

    def verify_by(
        self,
        find: Callable[[str], PublicKey],
        token_type: TokenType,
        token: str,
        audience: str | None = None,
    ) -> dict[str, Any]:
        """Return the claims of a token that the key which `find` returns for its kid signed; raise ValueError.

        `find` raises KeyError for a kid that it does not know.
        """
        try:
            key = find(str(_read_header(token, token_type)["kid"]))
            return verified_claims(
                token_type, token, jwt.PyJWK(dict(key.jwk)), key.alg, issuer=self.issuer, audience=audience
            )
        except MALFORMED as error:
            raise ValueError("the token is not valid") from error

    def find_key(self, kid: str, now: datetime) -> Key | None:
        """Return a key of the ring, in any phase; raise StaleView if this node last saw the ring too long ago."""
        view = self._view()
        view.max_age(self._policy, now)  # a view too old to publish is too old to verify by
        return next((key for key in view.ring.keys if key.kid == kid), None)

    def _published(self, kid: str, now: datetime) -> Key:
        key = self.find_key(kid, now)
        if key is None or self._view().ring.phase(key, now) not in PUBLISHED:
            raise KeyError(kid)
        return key


def _read_header(token: str, token_type: TokenType) -> dict[str, Any]:
    """Return the header of a token, which is not verified yet; raise one of MALFORMED."""
    if len(token) > TOKEN_MOST_CHARACTERS:
        raise ValueError(f"it has more than {TOKEN_MOST_CHARACTERS} characters")
    header = jwt.get_unverified_header(token)
    if header.get("typ") != token_type.typ:
        raise ValueError(f"typ is {header.get('typ')}, expected {token_type.typ}")
    return header


def verified_claims(
    token_type: TokenType,
    token: str,
    key: jwt.PyJWK | CryptoPublicKey,
    alg: str,
    *,
    issuer: str,
    audience: str | None = None,
) -> dict[str, Any]:
    """Return the claims of a token of `issuer`, for `audience` if one is given, that `key` signed.

    Raise one of MALFORMED. The caller has read the header, and checks the times.
    """
    return dict(
        jwt.decode(
            token,
            key,
            algorithms=[alg],
            audience=audience,
            issuer=issuer,
            options={**timeless(*token_type.required), "verify_aud": audience is not None},
        )
    )


def _cannot_sign() -> Unavailable:
    return Unavailable("this node cannot sign at the moment", timedelta(seconds=1))


@lru_cache(maxsize=16)
def _header(alg: str, kid: str, typ: str) -> bytes:
    """Return the first segment of every token of a type that a key signs."""
    return base64url_encode(to_json({"alg": alg, "kid": kid, "typ": typ}))
