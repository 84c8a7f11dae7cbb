"""Bodies that are too large or never arrive, and paths that nearly exist."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from issuer.services import Issuer
from issuer.web.app import create_app
from issuer.web.http.body_limit import BODY_MOST_BYTES

Logged = Callable[[], str]


@pytest.mark.parametrize("path", ["/login", "/users", "/oauth2/token"])
@pytest.mark.parametrize("announced", [True, False])
def test_too_large_a_body_is_refused_as_an_oauth_error(web: TestClient, path: str, announced: bool) -> None:
    body = b"a=" + b"x" * BODY_MOST_BYTES

    def chunks() -> Iterator[bytes]:
        yield body

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if path == "/users":
        headers = {"Content-Type": "application/json"}
    answer = web.post(path, content=body if announced else chunks(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"] == "invalid_request"


def test_a_content_length_of_many_digits_causes_no_internal_error(web: TestClient) -> None:
    for length, status in (("0" * 5000, 200), ("9" * 5000, 413)):
        assert web.get("/healthz", headers={"Content-Length": length}).status_code == status


def test_a_client_that_hangs_up_causes_no_internal_error(issuer: Issuer, logged: Logged) -> None:
    app = create_app(issuer)
    messages = iter(
        [{"type": "http.request", "body": b"grant", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: object) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth2/token",
        "raw_path": b"/oauth2/token",
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
        "client": None,
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "http_version": "1.1",
        "app": app,
    }
    asyncio.run(app(scope, receive, send))
    assert "internal error" not in logged()


@pytest.mark.parametrize("path", ["/login/", "/users/", "/oauth2/token/"])
def test_no_path_is_redirected(web: TestClient, path: str) -> None:
    assert web.post(path, headers={"Host": "evil.example"}, follow_redirects=False).status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/.well-known/openid-configuration"])
def test_every_get_endpoint_answers_head(web: TestClient, path: str) -> None:
    assert web.head(path).status_code == 200
