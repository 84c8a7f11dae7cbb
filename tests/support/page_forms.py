"""Forms of pages as a browser without scripts sends them: hidden fields included, redirects not followed."""

from html.parser import HTMLParser
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response

OWN_SITE = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("name")
        if tag == "input" and name:
            self.fields[name] = given.get("value") or ""


def fields_of(page: str) -> dict[str, str]:
    """Return the inputs of a page with their values."""
    parser = _Fields()
    parser.feed(page)
    return parser.fields


def send(web: TestClient, path: str, page: str, headers: dict[str, str] | None = None, **typed: str) -> Any:
    """Send the form of a page with what a user typed."""
    form = {**fields_of(page), **typed}
    return web.post(path, data=form, headers=headers or {}, follow_redirects=False)


def sign_in(web: TestClient, username: str, password: str, path: str = "/signin") -> Response:
    """Sign in as a browser does, and return the response to the form."""
    page = web.get(path)
    assert page.status_code == 200, page.text
    answer: Response = send(web, "/signin", page.text, username=username, password=password)
    return answer
