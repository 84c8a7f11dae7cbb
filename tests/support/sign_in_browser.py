"""A browser without JavaScript: keeps cookies, follows redirects, and fills in and submits the forms of pages.

It stops at the URLs of clients that no server answers. A real browser is in `browser`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2

from support.defaults import PASSWORD
from support.servers import PATIENCE_SECONDS

MOST_REDIRECTS = 20
SIGN_IN, CONSENT = "/signin", "/consent"


class Button(NamedTuple):
    """A button of a form, with what it adds to the form."""

    text: str
    name: str = ""
    value: str = ""


@dataclass
class Form:
    """A form, with the values that the page gives its fields."""

    action: str
    """An absolute URL."""
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[Button] = field(default_factory=list)

    def filled(self, button: str, values: Mapping[str, str]) -> dict[str, str]:
        """Return what is sent with a press of `button`, or of the first one if that is empty."""
        assert values.keys() <= self.fields.keys(), (values.keys(), self)
        pressed = next((each for each in self.buttons if button in {"", each.text}), None)
        assert pressed, (button, self)
        added = {pressed.name: pressed.value} if pressed.name else {}
        return {**self.fields, **values, **added}


@dataclass(frozen=True)
class Page:
    """A page that the browser shows, or the URL of a client at which it stopped."""

    url: str
    status: int = 0
    """0: no server was asked."""
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    posted: str = ""
    """The form that was posted to a client."""

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that the client received, by form or by query."""
        pairs = parse_qsl(self.posted or urlsplit(self.url).query, keep_blank_values=True)
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def forms(self) -> list[Form]:
        return self._read().found

    @property
    def targets(self) -> list[str]:
        """The absolute URLs of links, forms and what the page loads."""
        return self._read().targets

    def _read(self) -> "_Forms":
        reader = _Forms(self.url)
        reader.feed(self.text)
        return reader

    def form_with(self, *names: str) -> Form:
        """Return the one form that has fields of these names."""
        found = [form for form in self.forms if form.fields.keys() >= set(names)]
        assert len(found) == 1, (self.url, self.status, self.text)
        return found[0]


class _Forms(HTMLParser):
    """Collects the forms of a page, and the URLs of all that it links to or loads."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._text: list[str] | None = None
        self.found: list[Form] = []
        self.targets: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.targets += [
            urljoin(self._url, given[name]) for name in ("href", "src", "action") if name in given
        ]
        if tag == "form":
            self._inside = True
            action = urljoin(self._url, given.get("action", ""))
            self.found.append(Form(action, given.get("method", "get").upper()))
        elif self._inside and tag == "button" and given.get("type", "submit") == "submit":
            self._text = []
            self.found[-1].buttons.append(Button("", given.get("name", ""), given.get("value", "")))
        elif self._inside and tag == "input":
            self._add_input(given)

    def _add_input(self, given: Mapping[str, str]) -> None:
        kind, name, value = given.get("type", "text"), given.get("name", ""), given.get("value", "")
        if kind == "submit":
            self.found[-1].buttons.append(Button(value, name, value))
        elif name and (kind not in {"checkbox", "radio"} or "checked" in given):
            self.found[-1].fields[name] = value

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "button" and self._text is not None:
            buttons = self.found[-1].buttons
            buttons[-1] = buttons[-1]._replace(text=" ".join("".join(self._text).split()))
            self._text = None


class SignInBrowser:
    """One browser, with its cookies; `clients` are the URLs, without query, at which it stops."""

    def __init__(self, *clients: str, http: httpx2.Client | None = None) -> None:
        self._http = http or httpx2.Client(trust_env=False, timeout=PATIENCE_SECONDS)
        self._clients = clients
        self.visited: list[str] = []
        """The URLs of all requests, and those at which it stopped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def open(self, url: str) -> Page:
        """Open a URL that was typed in, or found in a client's page."""
        return self._go("GET", url, None, {"Sec-Fetch-Site": "none"})

    def post(self, url: str, form: Mapping[str, str]) -> Page:
        """Send a form from a page of another site; cookies go along as those without `SameSite` would."""
        headers = {"Origin": "https://other-site.example", "Sec-Fetch-Site": "cross-site"}
        return self._go("POST", url, urlencode(form), headers)

    def submit(self, page: Page, form: Form, button: str = "", **values: str) -> Page:
        """Fill in a form of a page, press a button by its text, and return the next page."""
        filled = form.filled(button, values)
        if form.method == "GET":
            return self._go("GET", f"{form.action}?{urlencode(filled)}", None, {})
        keeps_referrer = page.headers.get("referrer-policy") != "no-referrer"
        is_own = _origin(form.action) == _origin(page.url)
        headers = {
            "Origin": _origin(page.url) if keeps_referrer else "null",
            "Sec-Fetch-Site": "same-origin" if is_own else "same-site",
        }
        return self._go("POST", form.action, urlencode(filled), headers)

    def sign_in(self, page: Page, username: str = "alice", password: str = PASSWORD) -> Page:
        """Fill in the sign-in page."""
        form = page.form_with("username", "password")
        return self.submit(page, form, username=username, password=password)

    def allow(self, page: Page) -> Page:
        """Give consent."""
        return self.submit(page, page.form_with("ticket"), "Allow")

    def finish(self, page: Page, username: str = "alice") -> Page:
        """Sign in and give consent where that is asked for, and return the page after that."""
        if page.path.endswith(SIGN_IN):
            page = self.sign_in(page, username)
        if page.path.endswith(CONSENT):
            page = self.allow(page)
        is_waiting = page.path.endswith("/oauth2/authorize") and page.status == httpx2.codes.OK
        return self.submit(page, page.forms[0]) if is_waiting else page

    def visit(self, url: str, username: str = "alice") -> Page:
        """Open a URL, and do what the pages of the issuer ask for."""
        return self.finish(self.open(url), username)

    def _go(self, method: str, url: str, form: str | None, headers: Mapping[str, str]) -> Page:
        for _ in range(MOST_REDIRECTS):
            self.visited.append(url)
            if url.partition("?")[0] in self._clients:
                return Page(url, posted=form or "")
            answer = self._http.request(
                method, url, content=form, headers=_headers(headers, form), follow_redirects=False
            )
            if not answer.has_redirect_location:
                return Page(url, answer.status_code, answer.text, answer.headers)
            url = urljoin(url, answer.headers["location"])
            if answer.status_code not in {307, 308}:
                method, form = "GET", None
        message = f"more than {MOST_REDIRECTS} redirects: {self.visited[-MOST_REDIRECTS:]}"
        raise AssertionError(message)


def _headers(headers: Mapping[str, str], form: str | None) -> dict[str, str]:
    typed = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
    return {
        "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        **headers,
        **typed,
    }


def _origin(url: str) -> str:
    scheme, host, *_ = urlsplit(url)
    return f"{scheme}://{host}"
