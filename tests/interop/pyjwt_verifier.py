"""The verifier that docs/verifying.md shows for PyJWT; tested by `test_interop`."""

from collections.abc import Callable
from typing import Any

import jwt

REQUIRED = ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"]


def verifier(
    jwks_uri: str, issuer: str, audience: str, lifespan: int = 300
) -> Callable[[str], dict[str, Any]]:
    """Verify access tokens, with keys that are fetched again every five minutes."""
    keys = jwt.PyJWKClient(jwks_uri, lifespan=lifespan, cooldown_duration=30, timeout=3)

    def verify(token: str) -> dict[str, Any]:
        verified = jwt.decode_complete(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=["RS256"],
            issuer=issuer,
            audience=audience,
            leeway=10,
            options={"require": REQUIRED},
        )
        if verified["header"].get("typ") != "at+jwt":  # PyJWT leaves that to its user
            raise jwt.InvalidTokenError("not an access token")
        return verified

    return verify
