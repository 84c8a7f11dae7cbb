"""The verifier that docs/verifying.md shows for joserfc; tested by `test_interop`."""

from collections.abc import Callable

import jwt
from joserfc.errors import DecodeError
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry, Token, decode


def verifier(jwks_uri: str, issuer: str, audience: str, lifespan: int = 300) -> Callable[[str], Token]:
    """Verify access tokens, with keys that PyJWT fetches: joserfc fetches none."""
    keys = jwt.PyJWKClient(jwks_uri, lifespan=lifespan, cooldown_duration=30, timeout=3)
    named = {name: {"essential": True} for name in ("sub", "client_id", "iat", "exp", "jti")}
    claims = JWTClaimsRegistry(
        leeway=10,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        **named,
    )

    def verify(token: str) -> Token:
        key = keys.get_signing_key_from_jwt(token).key
        verified = decode(token, RSAKey.import_key(key), algorithms=["RS256"])
        claims.validate(verified.claims)
        if verified.header.get("typ") != "at+jwt":  # joserfc leaves that to its user
            raise DecodeError("not an access token")
        return verified

    return verify
