"""The page `/docs`, the OpenAPI document, and the security headers of the page."""

import json
import re

import pytest
from fastapi.testclient import TestClient
from support.verifier import METADATA_PATH

from verifier_example.app import create_app
from verifier_example.settings import Settings

PROTECTED = ["/protected_route", "/me", "/items"]


def test_openapi_documents_the_security_scheme_the_scopes_and_the_error_responses(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert set(schemes) == {"issuer", "access_token"}
    scheme = schemes["issuer"]
    assert scheme["flows"]["password"]["tokenUrl"] == "http://127.0.0.1:8000/login"
    assert set(scheme["flows"]["password"]["scopes"]) == {"items:read"}
    paths = document["paths"]
    assert set(paths) == {*PROTECTED, METADATA_PATH, "/", "/healthz", "/readyz", "/metrics"}
    assert {"issuer": ["items:read"]} in paths["/items"]["get"]["security"]
    assert {"issuer": []} in paths["/me"]["get"]["security"]
    for path in PROTECTED:
        assert {"access_token": []} in paths[path]["get"]["security"]
    assert "security" not in paths["/healthz"]["get"]
    for path in PROTECTED:
        answers = paths[path]["get"]["responses"]
        assert set(answers) == {"200", "400", "401", "503"} | ({"403"} if path == "/items" else set())
        for status in answers.keys() - {"200"}:
            assert answers[status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")


def test_the_docs_page_loads_nothing_from_other_hosts(client: TestClient) -> None:
    page = client.get("/docs").text
    urls = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(urls) >= 3
    for url in urls:
        assert url.startswith("/")
        assert client.get(url).status_code == 200


def test_the_policy_of_the_docs_page_names_an_international_issuer_in_ascii() -> None:
    app = create_app(Settings(_env_file=None, issuer="https://bücher.example"))
    policy = TestClient(app).get("/docs").headers["Content-Security-Policy"]
    assert "connect-src 'self' https://xn--bcher-kva.example;" in policy


def test_the_docs_page_runs_only_its_own_scripts_and_cannot_be_framed(client: TestClient) -> None:
    page = client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    for path in ("/docs", "/static-offline-docs/swagger-ui.css", "/healthz", "/me", "/nowhere"):
        assert client.get(path).headers.get_list("X-Content-Type-Options") == ["nosniff"]


def test_the_openapi_document_is_rendered_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/openapi.json")
    assert first.json()["openapi"].startswith("3.")
    monkeypatch.setattr(json, "dumps", None)
    assert client.get("/openapi.json").content == first.content
