"""What tests of endpoints share: URLs of the default settings, reading a token as a verifier, forms and errors."""

from typing import Any

import jwt
from fastapi.testclient import TestClient

ISSUER = "http://127.0.0.1:8000"
SERVICE = "http://127.0.0.1:8001"
FORM = "application/x-www-form-urlencoded"
TOKEN = "/oauth2/token"
GRANT = "grant_type=client_credentials"


def verified(web: TestClient, token: str, audience: str = SERVICE) -> dict[str, object]:
    """Return the claims as a third party learns them: from the JWKS alone, by another library."""
    keys = {key["kid"]: key for key in web.get("/.well-known/jwks.json").json()["keys"]}
    kid = jwt.get_unverified_header(token)["kid"]
    never_by_the_real_clock = {"verify_exp": False, "verify_iat": False}
    return dict(
        jwt.decode(
            token,
            jwt.PyJWK(keys[kid]),
            ["RS256"],
            audience=audience,
            issuer=ISSUER,
            options=never_by_the_real_clock,  # type: ignore[arg-type]
        )
    )


def refresh(web: TestClient, token: str, **more: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token, **more}
    return web.post("/oauth2/token", data=form)


def refusal(answer: Any) -> str:
    """Return the description of an invalid request; fail for any other response."""
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_request"
    description: str = answer.json()["error_description"]
    return description
