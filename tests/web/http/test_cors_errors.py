"""Errors for browser applications of other origins."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient
from support.defaults import MovableClock

from issuer.services import Issuer


def refusal(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_request"
    description: str = answer.json()["error_description"]
    return description


def test_a_preflight_that_is_refused_is_answered_as_an_oauth_error(web: TestClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert refusal(web.options("/login", headers=asked)) == "not allowed across origins: origin"
    assert (
        refusal(web.options("/.well-known/jwks.json", headers=asked)) == "not allowed across origins: method"
    )


def test_every_origin_may_read_public_documents_and_their_errors(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    origin = {"Origin": "https://app.example"}

    def open_to_all(method: str, path: str, status: int) -> None:
        answer = web.request(method, path, headers=origin)
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert "Retry-After" in answer.headers["access-control-expose-headers"]

    documents = ("/.well-known/jwks.json", "/.well-known/openid-configuration")
    for path in documents:
        open_to_all("GET", path, 200)
        open_to_all("POST", path, 405)
        open_to_all("OPTIONS", path, 204)
    open_to_all("GET", "/.well-known/nothing", 404)
    issuer.keys.node._view = replace(issuer.keys.node.view, refreshed_at=clock() - timedelta(hours=2))
    for path in documents:
        open_to_all("GET", path, 503)
