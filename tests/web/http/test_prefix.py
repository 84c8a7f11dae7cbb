"""An ISSUER_URL with a path: all that the service names is below it; and the headers that protect its pages."""

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, Build

from issuer.settings.settings import Settings
from issuer.web.app import create_app

URL = "https://host.example/auth"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keys that are quick to make: what they sign is of no matter here."""
    return settings.model_copy(update={"algorithm": "ES256"})


@pytest.fixture
def below(made: Build, settings: Settings) -> Iterator[TestClient]:
    issuer = made(settings.model_copy(update={"url": URL}))
    with TestClient(create_app(issuer), base_url="https://host.example") as web:
        yield web


def test_all_that_pages_and_documents_name_is_below_the_path(below: TestClient) -> None:
    page = below.get("/docs").text
    named = re.findall(r"""(?:href="|src="|url: '|origin \+ ')([^"']*)""", page)
    assert len(named) == 5
    openapi = below.get("/openapi.json").json()
    scheme = openapi["components"]["securitySchemes"]["password_login"]
    named += [scheme["flows"]["password"]["tokenUrl"], openapi["servers"][0]["url"] + "/"]
    assert [each for each in named if not each.startswith("/auth/")] == []
    assert below.get("/openapi.json").json() == openapi
    for address in named[:5]:
        assert below.get(address.removeprefix("/auth")).status_code == 200
    document = below.get("/.well-known/openid-configuration").json()
    urls = [value for value in document.values() if isinstance(value, str)]
    assert [url for url in urls if not (url + "/").startswith(f"{URL}/")] == []


def test_the_same_is_served_where_no_proxy_takes_the_path_off(below: TestClient) -> None:
    for path in ("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css", "/healthz"):
        assert below.get(f"/auth{path}").content == below.get(path).content
        assert below.get(f"/auth{path}").status_code == 200
    assert below.get("/auth/.well-known/jwks.json").json() == below.get("/.well-known/jwks.json").json()
    assert below.post("/auth/oauth2/token").json() == below.post("/oauth2/token").json()
    assert below.get("/auth/.well-known/nothing").headers["access-control-allow-origin"] == "*"
    assert below.get("/authx/docs").status_code == 404
    assert below.request("PATCH", "/auth/login").headers["allow"] == "OPTIONS, POST"


def test_a_path_may_hold_letters_of_any_language_and_breaks_no_page(made: Build, settings: Settings) -> None:
    for url, path in ((f"{URL}/%C3%BC", "/auth/%C3%BC"), (f"{URL}/a'b<c>", "/auth/a%27b%3Cc%3E")):
        issuer = made(settings.model_copy(update={"url": url}))
        with TestClient(create_app(issuer), base_url="https://host.example") as web:
            assert f"url: '{path}/openapi.json'" in web.get("/docs").text
            assert web.get(f"{path}/docs").status_code == 200
            assert web.get(f"/.well-known/openid-configuration{path}").json()["issuer"] == url


@pytest.mark.parametrize("name", ["oauth-authorization-server", "openid-configuration"])
def test_discovery_is_also_where_rfc_8414_inserts_the_name(below: TestClient, name: str) -> None:
    inserted = below.get(f"/.well-known/{name}/auth", headers={"Origin": "https://app.example"})
    assert inserted.json() == below.get(f"/.well-known/{name}").json()
    assert inserted.headers["access-control-allow-origin"] == "*"
    assert below.get(f"/.well-known/{name}/other").status_code == 404


def test_the_device_cookie_goes_to_this_issuer_of_the_host_alone(below: TestClient) -> None:
    cookie = below.post("/users", json=ALICE).headers["set-cookie"]
    assert cookie.startswith("__Secure-issuer_device=")
    assert {"Path=/auth", "Secure", "HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))


# What browsers receive


def test_every_response_forbids_content_sniffing_and_framing(web: TestClient) -> None:
    paths = (
        "/docs",
        "/docs/oauth2-redirect",
        "/static-offline-docs/swagger-ui-bundle.js",
        "/healthz",
        "/nowhere",
    )
    for path in (*paths, "/.well-known/jwks.json", "/users/me", "/metrics"):
        headers = web.get(path).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert headers.get_list("referrer-policy") == ["no-referrer"]
        if headers.get("content-type", "").startswith("text/html"):
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-frame-options"] == "DENY"
    assert web.post("/login", data=ALICE).headers["x-content-type-options"] == "nosniff"
