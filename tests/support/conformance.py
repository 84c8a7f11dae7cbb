"""What the OpenID Foundation's plans do in every module: two clients, a browser, and the checks of each response.

The modules are in `web/oauth/test_conformance_*`. Requests are those of the suite: without PKCE unless a module is
about it, with a state and a nonce of its kind, and the second client's redirect URI has a query.
"""

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from fastapi.testclient import TestClient
from pydantic import SecretStr

from issuer.accounts.profile import Profile
from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.wiring import build
from support.defaults import ALICE, START, MovableClock
from support.endpoints import ISSUER
from support.sign_in_browser import Page, SignInBrowser

HOME = "https://www.certification.openid.net/test/a/issuer"
REDIRECT_URI = f"{HOME}/callback"
SECOND_REDIRECT_URI = f"{REDIRECT_URI}?dummy1=lorem&dummy2=ipsum"
SIGNED_OUT_URI = f"{HOME}/post_logout_redirect"
STANDARD_CLAIMS = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "sid"}
)
ID_TOKEN_MOST_AGE = timedelta(minutes=5)
LEAST_CHARACTERS = 22
"""Of codes and refresh tokens: 128 bits in base64url."""
LONG_STATE = "0123456789abcdef" * 8


@dataclass(frozen=True)
class Application:
    """A registered client."""

    client_id: str
    secret: str = field(repr=False)
    redirect_uri: str = REDIRECT_URI
    in_body: bool = False
    """Whether the secret is sent in the body."""


@dataclass(frozen=True)
class Tokens:
    """A valid response of the token endpoint, with the claims of its id_token."""

    response: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def access(self) -> str:
        return str(self.response["access_token"])


class Conformance:
    """The suite with one issuer and one browser."""

    def __init__(self, web: TestClient, issuer: Issuer, clock: MovableClock) -> None:
        self.web, self.issuer, self.clock = web, issuer, clock
        self.url = issuer.settings.url
        self.first = self.registered(AuthMethod.BASIC)
        self.second = self.registered(AuthMethod.BASIC, SECOND_REDIRECT_URI)
        self._numbers = count(1)
        self.begin()

    def begin(self, mode: str = "query") -> None:
        """Begin a module with a browser that knows nothing; `mode` is the response mode that it asks for."""
        self.mode = mode
        self.new_browser()

    def new_browser(self) -> None:
        """Go on with a browser that knows nothing."""
        self.web.cookies.clear()
        self.browser = SignInBrowser(REDIRECT_URI, SIGNED_OUT_URI, http=self.web)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)
        self.issuer.keys.node.refresh()

    @property
    def metadata(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self.web.get(f"{self.url}/.well-known/openid-configuration").json()
        return document

    def request(self, client: Application | None = None, **parameters: str | None) -> dict[str, str]:
        """Return the parameters of a request, with changes: None leaves one out."""
        client, number = client or self.first, next(self._numbers)
        given = {
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "scope": "openid",
            "state": f"state-{number:0>10}",
            "nonce": f"nonce-{number:0>37}",
            "response_type": "code",
            "response_mode": None if self.mode == "query" else self.mode,
            **parameters,
        }
        return {name: value for name, value in given.items() if value is not None}

    def open(self, request: Mapping[str, str]) -> Page:
        """Open the authorization endpoint; a response by form arrives at the client."""
        page = self.browser.open(f"{self.url}/oauth2/authorize?{urlencode(request)}")
        return self.arrived(page)

    def arrived(self, page: Page) -> Page:
        """Press the button of a page that sends the response by form."""
        sends = page.path.endswith("/authorize") and page.status == 200
        return self.browser.submit(page, page.forms[0]) if sends and page.forms else page

    def respond(self, request: Mapping[str, str]) -> Page:
        """Do all that the issuer's pages ask for, and return the response that the client gets."""
        return self.browser.finish(self.open(request))

    def code(self, page: Page, request: Mapping[str, str]) -> str:
        """Return the code of a successful response; fail for any other."""
        parameters = self.parameters(page)
        assert parameters.keys() == {"code", "state", "iss"}, parameters
        assert (parameters["state"], parameters["iss"]) == (request["state"], self.url)
        assert len(parameters["code"]) >= LEAST_CHARACTERS
        return parameters["code"]

    def error(self, page: Page, request: Mapping[str, str]) -> str:
        """Return the error of a response that the client gets; fail for a page."""
        parameters = self.parameters(page)
        assert parameters.keys() <= {"error", "error_description", "error_uri", "state", "iss"}, parameters
        assert (parameters["state"], parameters["iss"]) == (request["state"], self.url)
        return parameters["error"]

    def parameters(self, page: Page) -> dict[str, str]:
        """Return what the client was sent, the way that it asked for; its own query is as registered."""
        assert page.url.startswith(REDIRECT_URI), (page.url, page.status, page.text)
        assert bool(page.posted) == (self.mode == "form_post"), page
        own = dict(parse_qsl(urlsplit(page.url).query)) if page.posted else {}
        found = {**own, **page.parameters}
        given = {name: value for name, value in found.items() if not name.startswith("dummy")}
        assert len(found) - len(given) in {0, 2}, found
        return given

    def redeem(self, code: str, client: Application | None = None, **more: str) -> Any:
        """Return the response of the token endpoint for a code."""
        client = client or self.first
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_uri, **more}
        return self.ask(client, form)

    def ask(self, client: Application, form: Mapping[str, str]) -> Any:
        """Send an authenticated request to the token endpoint."""
        secret = {"client_id": client.client_id, "client_secret": client.secret}
        if client.in_body:
            return self.web.post(f"{self.url}/oauth2/token", data={**form, **secret})
        return self.web.post(f"{self.url}/oauth2/token", data=form, auth=(client.client_id, client.secret))

    def sign_in(self, client: Application | None = None, **parameters: str | None) -> Tokens:
        """Make a request, redeem its code, and check all that comes back."""
        request = self.request(client, **parameters)
        code = self.code(self.respond(request), request)
        return self.tokens(self.redeem(code, client), client, request.get("nonce"))

    def tokens(self, answer: Any, client: Application | None = None, nonce: str | None = None) -> Tokens:
        """Check a token response and its id_token."""
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert (body["token_type"], body["expires_in"] > 0) == ("Bearer", True)
        claims = self.id_token(body["id_token"], client or self.first)
        assert claims.get("nonce") == nonce
        half = hashlib.sha256(body["access_token"].encode()).digest()[:16]
        assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
        return Tokens(body, claims)

    def id_token(self, token: str, client: Application) -> Mapping[str, Any]:
        """Check an id_token, and return its claims."""
        header = jwt.get_unverified_header(token)
        assert header["alg"] == "RS256"
        keys = {key["kid"]: key for key in self.web.get(self.metadata["jwks_uri"]).json()["keys"]}
        by_the_suite = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        claims: Mapping[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(keys[header["kid"]]),
            ["RS256"],
            issuer=self.url,
            options=by_the_suite,  # type: ignore[arg-type]
        )
        now = self.clock.now.timestamp()
        assert claims["aud"] == client.client_id
        assert claims["exp"] > now
        assert 0 <= now - claims["iat"] <= ID_TOKEN_MOST_AGE.total_seconds()
        assert 0 <= now - claims["auth_time"] <= timedelta(days=365).total_seconds()
        assert claims["sub"]
        assert len(claims["sub"]) <= 255
        assert claims["acr"]
        assert claims.keys() <= STANDARD_CLAIMS, claims
        return claims

    def userinfo(self, tokens: Tokens) -> Mapping[str, Any]:
        """Return the userinfo; it is that of the id_token's subject."""
        answer = self.web.get(
            self.metadata["userinfo_endpoint"], headers={"Authorization": f"Bearer {tokens.access}"}
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
        claims: Mapping[str, Any] = answer.json()
        assert claims["sub"] == tokens.claims["sub"]
        assert not {None, "", "null"}.intersection(map(json.dumps, claims.values()))
        return claims

    def is_signed_in(self) -> bool:
        """Return whether the browser gets a code without a page, as modules find out with `prompt=none`."""
        request = self.request(prompt="none")
        parameters = self.parameters(self.open(request))
        assert parameters.get("error", "login_required") == "login_required", parameters
        return "code" in parameters

    def registered(
        self, method: AuthMethod, redirect_uri: str = REDIRECT_URI, backchannel_logout_uri: str | None = None
    ) -> Application:
        """Register a client as the suite asks for."""
        client, secret = register_client(
            self.issuer.clients.store,
            "a certification client",
            method,
            frozenset({"items:read"}),
            (),
            START,
            redirect_uris=(redirect_uri,),
            post_logout_redirect_uris=(SIGNED_OUT_URI,),
            backchannel_logout_uri=backchannel_logout_uri,
            requires_pkce=False,
        )
        assert secret
        return Application(client.id, secret, redirect_uri, in_body=method is AuthMethod.POST)


@contextlib.contextmanager
def conformance(folder: Path, url: str = ISSUER) -> Iterator[Conformance]:
    """Run an issuer with one user, of whom all claims are known, for the modules of a plan."""
    clock = MovableClock()
    settings = Settings(
        url=url,
        database_url=SecretStr(f"sqlite:///{folder}/issuer.db"),
        keys=str(folder / "keys"),
        keys_passphrase=SecretStr("a passphrase for tests"),
    )
    issuer = build(settings, clock)
    try:
        with TestClient(create_app(issuer), raise_server_exceptions=False) as web:
            assert web.post(f"{url}/users", json=ALICE).status_code == 201
            user = issuer.accounts.store.by_username("alice")
            assert user
            profile = Profile("Alice Example", "alice@example.com", email_verified=True)
            issuer.accounts.store.set_profile(user.id, profile, START)
            yield Conformance(web, issuer, clock)
    finally:
        issuer.close()
