"""What pages load: the stylesheet, the icon and the operator's logo."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support.defaults import Build

from issuer.settings.settings import Settings
from issuer.web.app import create_app

SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PNG = b"\x89PNG\r\n\x1a\n rest"


def test_the_stylesheet_is_small_and_loads_nothing(web: TestClient) -> None:
    style = web.get("/pages/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert len(style.content) < 8 * 1024
    assert not re.search(r"url\(|@import|@font-face|animation|transition", style.text)


def test_browsers_keep_the_stylesheet_until_it_changes(web: TestClient) -> None:
    style = web.get("/pages/style.css")
    assert style.headers["cache-control"] == "public, max-age=3600"
    again = web.get("/pages/style.css", headers={"If-None-Match": style.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert web.get("/pages/style.css", headers={"If-None-Match": '"other"'}).status_code == 200
    (link,) = re.findall(r'rel="stylesheet" href="([^"]+)"', web.get("/signin").text)
    assert link == f"/pages/style.css?v={style.headers['etag'].strip(chr(34))[:8]}"


def test_without_a_logo_pages_show_the_name_alone(web: TestClient) -> None:
    assert web.get("/pages/logo").status_code == 404
    shown = web.get("/signin").text
    assert "<img" not in shown
    (icon,) = re.findall(r'rel="icon" href="([^"]+)"', shown)
    assert web.get(icon).headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(("content", "media_type"), [(SVG, "image/svg+xml"), (PNG, "image/png")])
def test_pages_show_the_logo_and_the_name_of_the_operator(
    made: Build, settings: Settings, tmp_path: Path, content: bytes, media_type: str
) -> None:
    logo = tmp_path / "logo"
    logo.write_bytes(content)
    issuer = made(settings.model_copy(update={"logo": logo, "name": "Accounts of <Acme>"}))
    with TestClient(create_app(issuer)) as web:
        shown = web.get("/signin").text
        assert '<img src="/pages/logo" alt=""' in shown
        assert "<span>Accounts of &lt;Acme&gt;</span>" in shown
        assert "<title>Sign in - Accounts of &lt;Acme&gt;</title>" in shown
        answer = web.get("/pages/logo")
        assert (answer.content, answer.headers["content-type"]) == (content, media_type)
        # An SVG that is opened by itself must not run its scripts with the cookies of this origin.
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
