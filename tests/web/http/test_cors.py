"""CORS: who may read what from other origins."""

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from support.defaults import ALICE, Build
from support.endpoints import SERVICE

from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.web.http.cors import CONFIGURED, OPEN

ANYWHERE = {"Origin": "https://anywhere.example"}
ALLOW_ORIGIN, ALLOW_CREDENTIALS = "access-control-allow-origin", "access-control-allow-credentials"


def test_browser_apps_of_the_named_origins_only_may_log_in(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": (SERVICE,)}))
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with,traceparent,sentry-trace,baggage",
    }
    with TestClient(create_app(issuer)) as web:
        allowed = web.options("/login", headers={"Origin": SERVICE, **asks})
        failed = web.post("/login", data=ALICE, headers={"Origin": SERVICE})
        refused = web.options("/login", headers={"Origin": "https://evil.example", **asks})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SERVICE)
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (401, SERVICE)
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_browser_apps_of_the_named_origins_may_manage_the_account(
    made: Build, settings: Settings, method: str
) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": (SERVICE,)}))
    asks = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with TestClient(create_app(issuer)) as web:
        allowed = web.options("/users/me", headers={"Origin": SERVICE, **asks})
    assert (allowed.status_code, allowed.headers[ALLOW_ORIGIN]) == (200, SERVICE)
    assert method in allowed.headers["access-control-allow-methods"]


def test_verifiers_of_every_origin_may_read_public_documents(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": (SERVICE,)}))
    origin = {"Origin": "https://anywhere.example"}
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    with TestClient(create_app(issuer)) as web:
        for path in ("/.well-known/jwks.json", "/.well-known/openid-configuration"):
            assert web.get(path, headers=origin).headers["access-control-allow-origin"] == "*"
            for method in ("GET", "HEAD"):
                asked = web.options(path, headers={**origin, **asks, "Access-Control-Request-Method": method})
                assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize("path", sorted(OPEN))
def test_applications_of_every_origin_may_use_the_endpoints_for_clients_without_credentials(
    web: TestClient, path: str
) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,dpop,mcp-protocol-version",
    }
    allowed = web.options(path, headers={**ANYWHERE, **asks})
    assert (allowed.status_code, allowed.headers[ALLOW_ORIGIN]) == (200, "*")
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    refused = web.post(path, headers={**ANYWHERE, "Cookie": "issuer-session=x"}, data={"token": "x"})
    assert refused.status_code in {400, 401}
    assert refused.headers.get_list(ALLOW_ORIGIN) == ["*"]
    assert {"WWW-Authenticate", "Retry-After"} <= set(
        refused.headers["access-control-expose-headers"].split(", ")
    )
    for answer in (allowed, refused):
        assert ALLOW_CREDENTIALS not in answer.headers


def test_a_token_response_for_a_server_has_no_headers_for_browsers(
    web: TestClient, machine: tuple[str, str]
) -> None:
    answer = web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_pages_and_endpoints_that_browsers_are_sent_to_are_open_to_no_origin(
    made: Build, settings: Settings
) -> None:
    app = create_app(made(settings.model_copy(update={"cors_origins": (SERVICE,)})))
    closed = {
        route.path
        for route in iter_route_contexts(app.routes)
        if route.path and route.path not in OPEN and not route.path.startswith((*CONFIGURED, "/.well-known/"))
    }
    assert {
        "/oauth2/authorize",
        "/oauth2/logout",
        "/oauth2/introspect",
        "/signin",
        "/account",
    } <= closed
    with TestClient(app, follow_redirects=False) as web:
        for path in sorted(closed):
            for method in ("GET", "POST", "OPTIONS"):
                asks = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
                answer = web.request(method, path, headers={"Origin": SERVICE, **asks})
                assert not [name for name in answer.headers if name.startswith("access-control-")], path


def test_each_open_path_is_that_of_an_endpoint(web: TestClient) -> None:
    paths = {route.path for route in iter_route_contexts(web.app.routes)}  # type: ignore[attr-defined]
    assert paths >= OPEN
    assert all(any(path and path.startswith(each) for path in paths) for each in CONFIGURED)
