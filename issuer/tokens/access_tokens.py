"""Access tokens, RFC 9068: made, signed with the key whose turn it is, and checked when they come back to the issuer.

Who may have one is the pipeline's decision; other services verify through the JWKS, see `verifier_example`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from jwt.utils import base64url_encode
from pydantic_core import to_json

from issuer.errors import KeyUnavailable, StaleView
from issuer.jose import MALFORMED, timeless
from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
from issuer.keyring.ring import PUBLISHED
from issuer.keyring.view import View
from issuer.oauth import InvalidToken, Unavailable
from issuer.signing.signer import Signer
from issuer.tokens.authorization import Authorization, access_token_claims

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of RFC 9068 section 2.1
TOKEN_MOST_CHARACTERS = 8192
NOT_VALID = "the access token is not valid here"
_OPTIONS = timeless("iss", "sub", "aud", "exp", "iat", "jti", "client_id")


@dataclass(frozen=True)
class AccessToken:
    """A signed token and its life in seconds."""

    text: str = field(repr=False)
    expires_in: int


class Mint:
    """Signs access tokens by the node's view of the key ring, and recognises its own."""

    def __init__(self, signer: Signer, view: Callable[[], View], policy: Policy, issuer: str) -> None:
        self._signer = signer
        self._view = view
        self._policy = policy
        self._issuer = issuer

    def key(self, now: datetime) -> Key:
        """Return the key that signs; raise Unavailable when this node may not, or cannot, sign."""
        try:
            return self._view().signing_key(self._policy, now)
        except (StaleView, KeyUnavailable) as error:
            raise _cannot_sign() from error

    def sign(self, authorization: Authorization, session: str | None, key: Key, now: datetime) -> AccessToken:
        """Return an access token, no longer-lived than the ring knows of this key; raise Unavailable."""
        lifetime = min(self._policy.token_lifetime, key.token_lifetime)
        claims = access_token_claims(authorization, session, self._issuer, now, lifetime)
        signed = _header(key.alg, key.kid) + b"." + base64url_encode(to_json(claims))
        try:
            signature = self._signer.sign(key.kid, signed)
        except KeyUnavailable as error:  # revoked in this very moment
            raise _cannot_sign() from error
        return AccessToken(
            (signed + b"." + base64url_encode(signature)).decode(), int(lifetime.total_seconds())
        )

    def claims(self, token: str, now: datetime, *, for_issuer: bool = False) -> dict[str, Any]:
        """Return the claims of a valid token of ours; raise InvalidToken, one text for every fault but age.

        With `for_issuer` its `aud` must hold the issuer's own URL.
        """
        try:
            claims = self._verified(token, now, for_issuer=for_issuer)
        except MALFORMED:
            raise InvalidToken(NOT_VALID) from None
        if not isinstance(claims["exp"], int) or claims["exp"] <= now.timestamp():
            raise InvalidToken("the access token has expired")
        return claims

    def is_for_issuer(self, claims: Mapping[str, Any]) -> bool:
        """Return whether the `aud` of a verified token holds the issuer's own URL."""
        audience = claims["aud"]
        return self._issuer in (audience if isinstance(audience, list) else [audience])

    def _verified(self, token: str, now: datetime, *, for_issuer: bool) -> dict[str, Any]:
        if len(token) > TOKEN_MOST_CHARACTERS:
            raise ValueError(TOKEN_MOST_CHARACTERS)
        header = jwt.get_unverified_header(token)
        key = self._published(str(header["kid"]), now)
        if header["typ"] != ACCESS_TOKEN_TYPE:
            raise ValueError(header["typ"])
        return dict(
            jwt.decode(
                token,
                jwt.PyJWK(dict(key.jwk)),
                algorithms=[key.alg],
                audience=self._issuer if for_issuer else None,
                issuer=self._issuer,
                options={**_OPTIONS, "verify_aud": for_issuer},
            )
        )

    def _published(self, kid: str, now: datetime) -> Key:
        view = self._view()
        view.max_age(self._policy, now)  # a view too old to publish is too old to judge by
        for key in view.ring.keys:
            if key.kid == kid and view.ring.phase(key, now) in PUBLISHED:
                return key
        raise KeyError(kid)


def _cannot_sign() -> Unavailable:
    return Unavailable("this node cannot sign at the moment", timedelta(seconds=1))


@lru_cache(maxsize=8)
def _header(alg: str, kid: str) -> bytes:
    """Return the first segment of every token that a key signs."""
    return base64url_encode(to_json({"alg": alg, "kid": kid, "typ": ACCESS_TOKEN_TYPE}))
