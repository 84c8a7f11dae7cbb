"""`GET /` of the example service: a page for browsers, JSON for programs."""

import re
from base64 import b64encode
from hashlib import sha256

from fastapi.testclient import TestClient

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = {"Host": "evil.test", "X-Forwarded-Host": "evil.test", "User-Agent": "<evil>"}
ISSUER = "http://127.0.0.1:8000"


def test_programs_get_the_places_of_all_documents(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["vary"] == "Accept"
    links = answer.json()
    assert links.pop("issuer") == ISSUER
    assert set(links) == {"docs", "openapi", "metadata"}
    assert {client.get(link).status_code for link in links.values()} == {200}


def test_a_browser_gets_a_page_that_links_them_and_loads_nothing(client: TestClient) -> None:
    answer = client.get("/", headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    links = re.findall(r'<a href="([^"]*)"', answer.text)
    assert links[-1] == ISSUER
    assert [client.get(link).status_code for link in links[:-1]] == [200] * 3
    policy = answer.headers["content-security-policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert not re.findall(r"<script|src=", answer.text)


def test_the_page_answers_head_and_repeats_nothing_of_the_request(client: TestClient) -> None:
    for headers in (BROWSER, {}):
        head = client.head("/", headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        plain = client.get("/", headers=headers)
        assert client.get("/?<evil>=evil", headers={**headers, **HOSTILE}).content == plain.content
    assert client.post("/").status_code == 405
