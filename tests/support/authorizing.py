"""An application that sends users to the authorization endpoint, and a browser that is signed in there."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fastapi.testclient import TestClient
from httpx2 import Response

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from support.signed_in import start_session, use_session

AUTHORIZE = "/oauth2/authorize"
CALLBACK = "https://app.example/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters"
STATE = "a state"


def challenge(verifier: str = VERIFIER) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class App:
    """A registered client."""

    client_id: str
    secret: str | None

    @property
    def credentials(self) -> dict[str, str]:
        """How it authenticates, in the form of a request."""
        return {"client_id": self.client_id, **({"client_secret": self.secret} if self.secret else {})}

    def request(self, **changes: str | None) -> dict[str, str]:
        """Return the parameters of an authorization request; None leaves one out."""
        parameters: dict[str, str | None] = {
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid items:read",
            "state": STATE,
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def asks(self, web: TestClient, **changes: str | None) -> Response:
        """Send the browser to the authorization endpoint."""
        return asked(web, self.request(**changes))

    def code(self, web: TestClient, **changes: str | None) -> str:
        """Return a code for the user who is signed in."""
        return answer(self.asks(web, **changes))["code"]

    def redeems(self, web: TestClient, code: str, **changes: str | None) -> Response:
        """Redeem a code."""
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **self.credentials,
            **changes,
        }
        sent = {name: value for name, value in form.items() if value is not None}
        return web.post("/oauth2/token", data=sent)


def an_app(
    issuer: Issuer,
    auth_method: AuthMethod = AuthMethod.POST,
    scope: str = "items:read",
    audiences: tuple[str, ...] = (),
    **options: Any,
) -> App:
    """Register a client; it is trusted, unless the options say otherwise."""
    options = {"redirect_uris": [CALLBACK], "is_trusted": True, **options}
    granted = frozenset(scope.split())
    client, secret = register_client(
        issuer.clients.store, "an app", auth_method, granted, audiences, issuer.clock(), **options
    )
    return App(client.id, secret)


def sign_in(web: TestClient, issuer: Issuer, user_id: str) -> BrowserSession:
    """Sign a user in with the browser of `web`, without the page."""
    session, secret = start_session(issuer, user_id)
    use_session(issuer, web, secret, "testserver.local")
    return session


def asked(web: TestClient, parameters: dict[str, str] | list[tuple[str, str]]) -> Response:
    return web.get(f"{AUTHORIZE}?{urlencode(parameters)}", follow_redirects=False)


def answer(response: Response, redirect_uri: str = CALLBACK) -> dict[str, str]:
    """Return the parameters that the client gets; fail unless the browser is sent to it."""
    assert response.status_code == 303, response.text
    location = response.headers["location"]
    assert location.startswith(redirect_uri), location
    fields = parse_qsl(urlsplit(location).query, keep_blank_values=True)
    assert len(dict(fields)) == len(fields)
    return dict(fields)


def page(response: Response) -> tuple[str, dict[str, str]]:
    """Return the path and the parameters of the page that the browser is sent to."""
    assert response.status_code == 303, response.text
    location = urlsplit(response.headers["location"])
    assert not location.netloc, response.headers["location"]
    return location.path, dict(parse_qsl(location.query))


def a_state() -> str:
    return secrets.token_urlsafe(96)


def refused_by_page(web: TestClient, query: str | bytes) -> str:
    """Return the text of an error page; fail if the browser is sent anywhere."""
    response = web.get(
        f"{AUTHORIZE}?{query if isinstance(query, str) else quote(query)}", follow_redirects=False
    )
    assert response.status_code == 400, response.text
    assert "location" not in response.headers
    assert "refresh" not in response.headers
    assert "<a " not in response.text
    assert response.headers["content-type"].startswith("text/html")
    return response.text
