"""ID tokens, OpenID Connect Core section 2: issued beside the access token of a user who signed in with a browser.

Which responses have one is decided in `grants.response`. Tokens that come back as a hint are read by `hints`, claims
about the user defined in `identity`.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from jwt.utils import base64url_encode

from issuer.keyring.key import Key
from issuer.sessions.session import SignIn
from issuer.signing.algorithms import ALGORITHMS
from issuer.tokens.authorization import Authorization
from issuer.tokens.claims import IdTokenClaims
from issuer.tokens.identity import released_claims
from issuer.tokens.refresh import Family
from issuer.tokens.signed_jwt import ID_TOKEN, JwtSigner

ID_TOKEN_LIFETIME: Final = timedelta(minutes=10)
"""The longest life of an id_token: a client reads it once, when it gets it. `JwtSigner.lifetime` may shorten it."""

SUBJECT_TYPE: Final = "public"
"""Every client knows a user by the same `sub`, OpenID Connect Core section 8."""


class IdTokens:
    """Issues id_tokens."""

    def __init__(self, jwt_signer: JwtSigner) -> None:
        self._signer = jwt_signer

    def sign(
        self,
        authorization: Authorization,
        family: Family,
        sign_in: SignIn,
        access_token: str,
        key: Key,
        now: datetime,
    ) -> str:
        """Return an id_token about the user of `family`, who signed in as `sign_in` says; raise Unavailable.

        It is signed with `key`, as is `access_token`, and expires before that is withdrawn.
        """
        issued_at = int(now.timestamp())
        lifetime = self._signer.lifetime(key, ID_TOKEN_LIFETIME)
        claims = IdTokenClaims(
            iss=self._signer.issuer,
            sub=family.user_id,
            aud=family.client_id,
            exp=issued_at + int(lifetime.total_seconds()),
            iat=issued_at,
            auth_time=int(sign_in.auth_time.timestamp()),
            sid=sign_in.sid,
            acr=sign_in.acr,
            amr=sign_in.amr,
            at_hash=at_hash(access_token, key.alg),
            nonce=authorization.nonce,
            about_user=_about_user(authorization, sign_in),
        )
        return self._signer.sign(ID_TOKEN, claims.members(), key)


def _about_user(authorization: Authorization, sign_in: SignIn) -> dict[str, str | bool | int]:
    """Return the claims that the client gets in id_tokens, as far as the user released them to it."""
    if authorization.user is None or not authorization.id_token_claims:
        return {}
    released = released_claims(authorization.user, authorization.scope, sign_in.userinfo_claims)
    return {name: released[name] for name in authorization.id_token_claims if name in released}


def at_hash(access_token: str, alg: str) -> str:
    """Return the left half of the hash of an access token, by the hash function of `alg`; Core section 3.1.3.6."""
    digest = hashlib.new(ALGORITHMS[alg].hash, access_token.encode()).digest()
    return base64url_encode(digest[: len(digest) // 2]).decode()
