"""Forms of pages in a client of the test process: what a page contains is sent back, redirects are not followed.

A browser that follows them, and fills in several forms, is in `sign_in_browser`.
"""

from html.parser import HTMLParser
from typing import Any

from fastapi.testclient import TestClient

from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.web.pages.browser import cookie_name


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("name")
        is_sent = given.get("type") != "checkbox" or "checked" in given
        if tag == "input" and name and is_sent:
            self.found[name] = given.get("value") or ""


def fields_of(page: str) -> dict[str, str]:
    """Return the inputs of a page with their values, as they are sent if nothing is changed."""
    fields = _Fields()
    fields.feed(page)
    return fields.found


def send(web: TestClient, path: str, page: str, headers: dict[str, str] | None = None, **typed: str) -> Any:
    """Send the form of a page with what a user typed."""
    return web.post(path, data={**fields_of(page), **typed}, headers=headers or {}, follow_redirects=False)


def sign_in(web: TestClient, username: str, password: str, path: str = "/signin", **typed: str) -> Any:
    """Fill in the sign-in page, and return the response to the form."""
    page = web.get(path)
    assert page.status_code == 200, page.text
    return send(web, "/signin", page.text, username=username, password=password, **typed)


def session_of(web: TestClient, issuer: Issuer) -> BrowserSession | None:
    """Return the session of a client, if it is signed in."""
    secret = web.cookies.get(cookie_name(issuer.settings.url))
    return issuer.sessions.store.find(secret, issuer.clock()) if secret else None


def without_session(web: TestClient) -> None:
    """Delete the session cookie."""
    web.cookies.delete("issuer-session")
