"""Methods and paths without an endpoint: HEAD, OPTIONS, Allow, and 404."""

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.defaults import Build

from issuer.settings.settings import Settings
from issuer.web.app import create_app

TOKEN = "/oauth2/token"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keys that are quick to make: what they sign is of no matter here."""
    return settings.model_copy(update={"algorithm": "ES256"})


READABLE = (
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/healthz",
    "/docs",
    "/openapi.json",
)

METHODS = {
    **dict.fromkeys((*READABLE, "/metrics"), "GET, HEAD, OPTIONS"),
    "/users/me": "DELETE, GET, HEAD, OPTIONS, PATCH",
    **dict.fromkeys(("/users", "/login", TOKEN, "/oauth2/revoke", "/logout"), "OPTIONS, POST"),
    "/users/me/sessions/x": "DELETE, OPTIONS",
}


def test_allow_names_the_methods_that_are_served(web: TestClient) -> None:
    for path, allow in METHODS.items():
        wrong = web.request("PUT", path)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, allow)
        assert wrong.json()["error"] == "method_not_allowed"
        options = web.options(path)
        assert (options.status_code, options.headers["allow"], options.content) == (204, allow, b"")
        assert (web.head(path).status_code == 405) is ("HEAD" not in allow)


@pytest.mark.parametrize("path", [*READABLE, "/users/me"])
def test_head_answers_as_get_does_without_the_body(web: TestClient, path: str) -> None:
    got, head = web.get(path), web.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "etag", "www-authenticate", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)


def test_options_of_the_whole_server_are_answered_below_a_path_too(made: Build, settings: Settings) -> None:
    for url in (settings.url, "https://example.com/auth"):
        app = create_app(made(settings.model_copy(update={"url": url})))
        assert asyncio.run(status_of_asterisk(app)) == 204


async def status_of_asterisk(app: Any) -> int:
    """Ask for `OPTIONS *`, which no HTTP client of Python sends."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "OPTIONS", "path": "*", "raw_path": b"*", "query_string": b""}
    await app({**scope, "headers": [], "http_version": "1.1", "scheme": "http"}, None, send)
    return int(sent[0]["status"])


def test_an_unknown_path_is_not_found_by_any_method(web: TestClient) -> None:
    for path in ("/nowhere", "/login/", "/.well-known/nothing", "/.well-known/openid-configuration/x"):
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            answer = web.request(method, path)
            assert answer.status_code == 404
            assert method == "HEAD" or answer.json() == {
                "error": "not_found",
                "error_description": "there is no such endpoint",
            }
    assert web.get("/static-offline-docs/nothing").json()["error"] == "not_found"
