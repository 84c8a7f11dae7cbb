"""`GET /` of the issuer: a page for browsers, JSON for programs."""

import re

from fastapi.testclient import TestClient
from support.defaults import Build
from support.endpoints import ISSUER

from issuer.settings.settings import Settings
from issuer.web.app import create_app

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = {"Host": "evil.test", "X-Forwarded-Host": "evil.test", "User-Agent": "<evil>"}


def test_programs_get_the_urls_of_all_documents(web: TestClient) -> None:
    for accept in ("*/*", "application/json", "application/*"):
        answer = web.get("/", headers={"Accept": accept})
        assert "Accept" in answer.headers["vary"].split(", ")
        links = answer.json()
        assert links.pop("issuer") == ISSUER
        assert set(links) == {"docs", "openapi", "discovery", "jwks_uri"}
        for link in links.values():
            assert link.startswith(f"{ISSUER}/")
            assert web.get(link.removeprefix(ISSUER)).status_code == 200
    assert web.get(links["discovery"].removeprefix(ISSUER)).json()["jwks_uri"] == links["jwks_uri"]


def test_a_browser_gets_a_page_that_links_them_and_the_account(web: TestClient) -> None:
    answer = web.get("/", headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    assert "Accept" in answer.headers["vary"].split(", ")
    links = re.findall(r'href="(/[^"]*)"', answer.text)
    assert len(links) == 4 + 3  # with the icon, the stylesheet and the account
    assert "/account" in links
    assert {web.get(link).status_code for link in links} == {200}
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert not re.findall(r"<script|src=", answer.text)


def test_the_page_answers_head_and_repeats_nothing_of_the_request(web: TestClient) -> None:
    for headers in (BROWSER, {}):
        head = web.head("/", headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        plain = web.get("/", headers=headers)
        assert web.get("/?<evil>=evil", headers={**headers, **HOSTILE}).content == plain.content
    assert web.post("/").status_code == 405


def test_below_a_path_all_links_begin_with_it(made: Build, settings: Settings) -> None:
    url = "https://host.example/a'b"
    issuer = made(settings.model_copy(update={"url": url}))
    with TestClient(create_app(issuer), base_url="https://host.example") as web:
        for path in ("/", "/a'b", "/a'b/"):
            assert web.get(path).json()["docs"] == f"{url}/docs"
            links = re.findall(r'href="(/[^"]*)"', web.get(path, headers=BROWSER).text)
            assert {link.partition("/docs")[0] for link in links if "docs" in link} == {"/a%27b"}
            assert all(link.startswith("/a%27b/") for link in links)
