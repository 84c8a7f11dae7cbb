"""Owns a peer of the example service: `GET /me` by the usual recipe, PyJWT's PyJWKClient in a sync dependency.

Run it with `uvicorn recipe:app`; what it needs to know comes from the environment.
"""

import os
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

ISSUER, AUDIENCE = os.environ["ISSUER"], os.environ["AUDIENCE"]
jwks_client = jwt.PyJWKClient(os.environ["JWKS_URL"])
bearer = HTTPBearer()
app = FastAPI()


def current_user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> dict[str, Any]:
    """Return the claims of the caller's token."""
    try:
        key = jwks_client.get_signing_key_from_jwt(credentials.credentials)
        claims: dict[str, Any] = jwt.decode(
            credentials.credentials, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER
        )
    except jwt.PyJWTError as error:
        raise HTTPException(401, "invalid token", {"WWW-Authenticate": "Bearer"}) from error
    return claims


@app.get("/me")
async def me(user: Annotated[dict[str, Any], Depends(current_user)]) -> dict[str, Any]:
    """Show the caller's claims."""
    return user
