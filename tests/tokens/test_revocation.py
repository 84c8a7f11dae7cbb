"""Revocation of access tokens: by clients of the issuer, and not with tokens for another service."""

from fastapi.testclient import TestClient
from support.defaults import MovableClock, bearer
from support.refreshes import PUBLIC, SERVICE, is_active, log_in, refresh

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.tokens.refresh_text import family_and_proof


def for_service(web: TestClient) -> tuple[str, str]:
    """Return an access token with only the service as audience, and the refresh token of its session."""
    body = refresh(web, log_in(web)["refresh_token"], resource=SERVICE).json()
    return body["access_token"], body["refresh_token"]


def test_a_service_cannot_end_a_session_with_a_token_for_itself(web: TestClient, alice: str) -> None:
    access, token = for_service(web)
    for hint in ({}, {"token_type_hint": "access_token"}, {"token_type_hint": "refresh_token"}):
        answer = web.post("/oauth2/revoke", data={"token": access, **PUBLIC, **hint})
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")
    session = family_and_proof(token)
    assert session
    for method, path in (
        ("POST", "/logout"),
        ("POST", "/logout?everywhere=true"),
        ("GET", "/users/me"),
        ("GET", "/users/me/sessions"),
        ("DELETE", f"/users/me/sessions/{session[0]}"),
    ):
        assert web.request(method, path, headers=bearer(access)).status_code == 401
    assert is_active(web, token)


def test_a_public_client_can_revoke_an_access_token_for_the_issuer(web: TestClient, alice: str) -> None:
    body = log_in(web)
    assert web.post("/oauth2/revoke", data={"token": body["access_token"], **PUBLIC}).status_code == 200
    assert not is_active(web, body["refresh_token"])


def test_a_public_client_cannot_revoke_tokens_of_another(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    other, _ = register_client(issuer.clients.store, "other", AuthMethod.NONE, frozenset(), (), clock())
    body = log_in(web)
    for token in (body["access_token"], body["refresh_token"], for_service(web)[0]):
        answer = web.post("/oauth2/revoke", data={"token": token, "client_id": other.id})
        assert answer.status_code == 400
    assert is_active(web, body["refresh_token"])
