"""CORS: who may read what from other origins."""

from fastapi.testclient import TestClient
from support.defaults import ALICE, Build
from support.endpoints import SERVICE

from issuer.settings.settings import Settings
from issuer.web.app import create_app


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
