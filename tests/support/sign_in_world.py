"""Two nodes on one database with clocks of their own, browsers that reach either, and applications."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx2
from fastapi.testclient import TestClient
from pydantic import SecretStr

from issuer.accounts.registration import register_user
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.wiring import build
from support.authorizing import CALLBACK, VERIFIER, App, an_app
from support.defaults import PASSWORD, START
from support.sign_in_browser import Page, SignInBrowser

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIGIN = "http://testserver"


class Nodes:
    """The installation: its nodes, the true time, and how far each clock differs from it."""

    def __init__(self, offsets: tuple[timedelta, ...]) -> None:
        self.now = START
        self._open = ExitStack()
        folder = Path(self._open.enter_context(TemporaryDirectory()))
        self.issuers = [self._node(folder, offset) for offset in offsets]
        self.web = [self._open.enter_context(TestClient(create_app(issuer))) for issuer in self.issuers]
        self._people = 0
        self.renew()

    def renew(self) -> None:
        """Have a new user and new applications, as an installation of its own would; making one takes seconds."""
        first, self._people = self.issuers[0], self._people + 1
        self.alice = register_user(
            first.accounts.store,
            first.accounts.passwords,
            f"alice{self._people}",
            PASSWORD,
            self.now,
            frozenset({"items:read"}),
        )
        self.apps = (
            an_app(first, AuthMethod.NONE, is_trusted=False),
            an_app(first, AuthMethod.POST, is_trusted=True),
        )

    def _node(self, folder: Path, offset: timedelta) -> Issuer:
        settings = Settings(
            url=ORIGIN,
            database_url=SecretStr(f"sqlite:///{folder}/issuer.db"),
            keys=str(folder / "keys"),
            keys_passphrase=SecretStr("a passphrase for tests"),
        )
        return build(settings, lambda: self.now + offset)

    def wait(self, span: timedelta) -> None:
        """Let time pass; every node reads the key ring meanwhile."""
        self.now += span
        for issuer in self.issuers:
            issuer.keys.node.refresh()

    def close(self) -> None:
        self._open.close()


class Reaching:
    """The network of one browser: its cookies go to whichever node answers."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.node = 0
        self.cookies = httpx2.Cookies()

    def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        web = self._nodes.web[self.node]
        web.cookies = self.cookies
        response = web.request(method, url, **options)
        self.cookies = httpx2.Cookies(web.cookies)
        return response


class Visitor:
    """A browser of a person or a thief."""

    def __init__(self, nodes: Nodes) -> None:
        self.network = Reaching(nodes)
        self.pages = SignInBrowser(CALLBACK, http=self.network)  # type: ignore[arg-type]

    def at(self, node: int) -> SignInBrowser:
        self.network.node = node
        return self.pages

    def take_cookies(self, other: "Visitor") -> None:
        """Have a copy of all cookies of another browser."""
        self.network.cookies = httpx2.Cookies(other.network.cookies)


@dataclass(frozen=True)
class Outcome:
    """Where an authorization request led: a page of the issuer, an error or a code."""

    page: Page

    @property
    def code(self) -> str | None:
        return self.page.parameters.get("code") if self._is_at_client else None

    @property
    def text(self) -> str:
        """`signin`, `consent`, `code`, or the error that the application got."""
        if not self._is_at_client:
            return self.page.path.rpartition("/")[2]
        return "code" if self.code else self.page.parameters["error"]

    @property
    def _is_at_client(self) -> bool:
        return self.page.url.startswith(CALLBACK)


def ask(browser: SignInBrowser, app: App, prompt: str | None, *, offline: bool) -> Outcome:
    """Send a browser to the authorization endpoint."""
    scope = "openid items:read" + (" offline_access" if offline else "")
    query = httpx2.QueryParams(app.request(scope=scope, prompt=prompt))
    return Outcome(browser.open(f"{ORIGIN}/oauth2/authorize?{query}"))


def redeem(nodes: Nodes, node: int, app: App, code: str, verifier: str = VERIFIER) -> httpx2.Response:
    """Redeem a code, without cookies."""
    return _post(nodes, node, app, grant_type="authorization_code", code=code, code_verifier=verifier)


def refresh(nodes: Nodes, node: int, app: App, token: str) -> httpx2.Response:
    """Use a refresh token."""
    return _post(nodes, node, app, grant_type="refresh_token", refresh_token=token)


def _post(nodes: Nodes, node: int, app: App, **form: str) -> httpx2.Response:
    web = nodes.web[node]
    web.cookies = httpx2.Cookies()
    return web.post("/oauth2/token", data={**form, **app.credentials})


def userinfo(nodes: Nodes, node: int, token: str) -> httpx2.Response:
    """Ask for the claims of a user."""
    nodes.web[node].cookies = httpx2.Cookies()
    headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"}
    return nodes.web[node].get("/oauth2/userinfo", headers=headers)


def is_over(age: timedelta, limit: timedelta, margin: timedelta) -> bool | None:
    """Return whether something has expired; None if it depends on whose clock is asked."""
    if abs(age - limit) <= margin:
        return None
    return age > limit


def instant(now: datetime) -> str:
    return f"{now:%d %H:%M:%S}"
