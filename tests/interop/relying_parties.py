"""Relying parties by third-party libraries: programs in other languages, and Authlib in this process.

Each discovers the issuer, begins a sign-in, and validates its result; the browser and the expected results are in
`test_sign_in`. Applications with pages of their own are in `web_applications`.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlencode

from authlib.integrations.flask_client import OAuth
from flask import Flask, Response, jsonify, session
from support.components import INTEROP
from support.servers import PATIENCE_SECONDS
from support.sign_in_browser import Page

SCOPE = "openid profile email offline_access items:read"


class Registered(NamedTuple):
    """A client of an issuer; nothing answers at its URIs."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    post_logout_redirect_uri: str


class SignedIn(NamedTuple):
    """What a library accepted: an id_token with its claims, and those of the userinfo endpoint if it asked there."""

    id_token: str
    claims: Mapping[str, Any]
    userinfo: Mapping[str, Any] | None = None


class RelyingParty(Protocol):
    """One sign-in by one library."""

    def begin(self, **more: Any) -> str:
        """Return the URL of the authorization request, with the scope `SCOPE`, PKCE, state and nonce."""

    def finish(self, page: Page) -> SignedIn:
        """Redeem the code that the browser brought to the redirect URI, and ask for the userinfo."""

    def refresh(self) -> SignedIn:
        """Refresh the access token, and return the new id_token."""

    def log_out(self, state: str) -> str:
        """Return the URL that signs the person out at the issuer."""


class Program:
    """A program that answers each line of JSON with one."""

    def __init__(
        self,
        command: list[str],
        registered: Registered,
        *,
        folder: Path = INTEROP,
        packages: Path | None = None,
    ) -> None:
        self._command = command
        self._folder = folder
        self._registered = registered
        self._packages = {"PYTHONPATH": str(packages)} if packages else {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={**os.environ, **self._packages},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._ask(registered=self._registered._asdict())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, **more: Any) -> str:
        return str(self._ask(call="begin", scope=SCOPE, **more)["url"])

    def finish(self, page: Page) -> SignedIn:
        posted = {"form": page.posted} if page.posted else {}
        return SignedIn(**self._ask(call="finish", url=page.url, **posted))

    def refresh(self) -> SignedIn:
        return SignedIn(**self._ask(call="refresh"))

    def log_out(self, state: str) -> str:
        return str(self._ask(call="log_out", state=state)["url"])

    def _ask(self, **given: Any) -> Mapping[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(given)}\n")
        self._process.stdin.flush()
        answered, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
        assert answered, f"{self._command} has not answered within {PATIENCE_SECONDS} s"
        line = self._process.stdout.readline()
        assert line, f"{self._command} ended with {self._process.wait(PATIENCE_SECONDS)}"
        answer: Mapping[str, Any] = json.loads(line)
        assert "error" not in answer, answer
        return answer


def openid_client(registered: Registered) -> Program:
    """openid-client on Node.js."""
    return Program(["node", "sign_in.mjs", "openid-client"], registered, folder=INTEROP / "oauth")


def oauth4webapi(registered: Registered) -> Program:
    """oauth4webapi on Node.js."""
    return Program(["node", "sign_in.mjs", "oauth4webapi"], registered, folder=INTEROP / "oauth")


def go_oidc(registered: Registered) -> Program:
    """go-oidc with golang.org/x/oauth2."""
    return Program([str(INTEROP / "go/sign_in")], registered)


def idpyoidc(registered: Registered) -> Program:
    """idpyoidc, with its packages in a folder of their own."""
    folder = INTEROP / "idpyoidc"
    return Program(
        [sys.executable, "relying_party.py"], registered, folder=folder, packages=folder / "fetched"
    )


class Authlib:
    """Authlib's registry for Flask, in an application that is called in this process."""

    def __init__(self, registered: Registered) -> None:
        self._registered = registered
        app = Flask(__name__)
        app.secret_key = "only in this process"
        self._remote = OAuth(app).register(
            "issuer",
            client_id=registered.client_id,
            client_secret=registered.client_secret,
            server_metadata_url=f"{registered.issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": SCOPE, "code_challenge_method": "S256"},
        )
        for endpoint in (self._begin, self._callback, self._refresh):
            app.add_url_rule(f"/{endpoint.__name__}", view_func=endpoint)
        self._client = app.test_client()

    def begin(self, **more: Any) -> str:
        return str(self._client.get("/_begin", query_string=more).headers["location"])

    def finish(self, page: Page) -> SignedIn:
        answer = self._client.get("/_callback", query_string=page.parameters)
        return SignedIn(**answer.get_json())

    def refresh(self) -> SignedIn:
        return SignedIn(**self._client.get("/_refresh").get_json())

    def log_out(self, state: str) -> str:
        hint = {
            "id_token_hint": self._tokens["id_token"],
            "post_logout_redirect_uri": self._registered.post_logout_redirect_uri,
            "state": state,
        }
        return f"{self._remote.load_server_metadata()['end_session_endpoint']}?{urlencode(hint)}"

    def _begin(self) -> Any:
        return self._remote.authorize_redirect(self._registered.redirect_uri)

    def _callback(self) -> Response:
        self._tokens = self._latest = self._remote.authorize_access_token()
        claims = self._tokens["userinfo"]  # of the id_token
        session["nonce"] = claims["nonce"]
        userinfo = self._remote.userinfo(token=self._tokens)
        return jsonify(id_token=self._tokens["id_token"], claims=claims, userinfo=userinfo)

    def _refresh(self) -> Response:
        old = self._latest
        tokens = self._remote.fetch_access_token(
            grant_type="refresh_token", refresh_token=old["refresh_token"]
        )
        self._latest = tokens
        claims = self._remote.parse_id_token(tokens, nonce=None)
        return jsonify(id_token=tokens["id_token"], claims=claims)


@contextmanager
def authlib(registered: Registered) -> Iterator[Authlib]:
    """Authlib on the server's side."""
    yield Authlib(registered)


RELYING_PARTIES: Mapping[str, Callable[[Registered], AbstractContextManager[RelyingParty]]] = {
    "openid-client": openid_client,
    "oauth4webapi": oauth4webapi,
    "go-oidc": go_oidc,
    "idpyoidc": idpyoidc,
    "Authlib": authlib,
}
