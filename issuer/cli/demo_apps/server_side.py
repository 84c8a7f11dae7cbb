"""The application with a server: FastAPI, with Authlib as the OAuth client; tokens never reach the browser.

Only this module imports Authlib and requests, which the issuer itself does not need.
"""

import secrets
from html import escape
from typing import Annotated, Any

import httpx2
import jwt
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.middleware.sessions import SessionMiddleware

from issuer.cli.demo_apps.settings import Settings

SCOPE = "openid profile items:read"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demo: an application with a server</title>
<link rel="icon" href="data:,">
<h1>An application with a server</h1>
{content}
"""
SIGNED_OUT = '<form action="/sign-in"><button>Sign in</button></form>'
SIGNED_IN = """\
<p>Signed in as <strong id="user">{user}</strong></p>
<p>The example service answers: <code id="answer">{answer}</code></p>
<form action="/sign-out" method="post"><button>Sign out</button></form>
"""


class Application:
    """The routes and what they share. The session cookie holds a random key, the tokens stay in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signed_in: dict[str, dict[str, Any]] = {}
        with httpx2.Client(trust_env=False) as http:
            self._metadata = http.get(f"{settings.issuer}/.well-known/openid-configuration").json()
        self._keys = jwt.PyJWKClient(self._metadata["jwks_uri"])

    def home(self, request: Request) -> HTMLResponse:
        """Show who is signed in."""
        session = self._signed_in.get(request.session.get("key", ""))
        if session is None:
            return HTMLResponse(PAGE.format(content=SIGNED_OUT))
        headers = {"Authorization": f"Bearer {session['access_token']}"}
        with httpx2.Client(trust_env=False) as http:
            userinfo = http.get(self._metadata["userinfo_endpoint"], headers=headers)
            answer = http.get(f"{self._settings.service}/protected_route", headers=headers)
        if not userinfo.is_success:  # the token has expired, or the session has ended
            self._signed_in.pop(request.session["key"], None)
            return HTMLResponse(PAGE.format(content=SIGNED_OUT))
        user = userinfo.json()
        name = user.get("name") or user.get("preferred_username", "")
        content = SIGNED_IN.format(user=escape(name), answer=escape(f"{answer.status_code} {answer.text}"))
        return HTMLResponse(PAGE.format(content=content))

    def sign_in(self, request: Request) -> RedirectResponse:
        """Send the browser to the issuer; the verifier of PKCE and the state wait in the session cookie."""
        verifier = secrets.token_urlsafe(48)
        url, state = self._client().create_authorization_url(
            self._metadata["authorization_endpoint"], code_verifier=verifier
        )
        request.session.update(verifier=verifier, state=state)
        return RedirectResponse(url, 303)

    def callback(self, request: Request) -> Response:
        """Redeem the code that the issuer sent; the state shows that this browser started the sign-in."""
        verifier, state = request.session.pop("verifier", ""), request.session.pop("state", "")
        if request.query_params.get("iss") != self._settings.issuer:  # RFC 9207
            return HTMLResponse(PAGE.format(content="<p>The answer is from another issuer.</p>"), 400)
        try:
            session = self._client(state=state).fetch_token(
                self._metadata["token_endpoint"],
                authorization_response=str(request.url),
                code_verifier=verifier,
            )
            claims = self._claims(session["id_token"])
        except (OAuthError, jwt.PyJWTError) as error:
            content = f"<p>The sign-in failed: {escape(str(error))}</p>{SIGNED_OUT}"
            return HTMLResponse(PAGE.format(content=content), 400)
        request.session["key"] = secrets.token_urlsafe()
        self._signed_in[request.session["key"]] = {**session, "sid": claims["sid"]}
        return RedirectResponse("/", 303)

    def signed_out_elsewhere(self, logout_token: Annotated[str, Form()]) -> Response:
        """End the sessions that the issuer reports as ended, OpenID Connect Back-Channel Logout 1.0 section 2.5."""
        try:
            told = self._claims(logout_token)
        except jwt.PyJWTError:
            return JSONResponse({"error": "invalid_request"}, 400)
        if LOGOUT_EVENT not in told.get("events", {}) or "nonce" in told or "sid" not in told:
            return JSONResponse({"error": "invalid_request"}, 400)
        for key, each in list(self._signed_in.items()):
            if each["sid"] == told["sid"]:
                self._signed_in.pop(key, None)
        return Response()

    def sign_out(self, request: Request) -> RedirectResponse:
        """End the session here, then at the issuer, which sends the browser back."""
        session = self._signed_in.pop(request.session.pop("key", ""), None)
        if session is None:
            return RedirectResponse("/", 303)
        parameters = {
            "id_token_hint": session["id_token"],
            "post_logout_redirect_uri": f"{self._settings.here}/",
        }
        url = httpx2.URL(self._metadata["end_session_endpoint"], params=parameters)
        return RedirectResponse(str(url), 303)

    def _claims(self, token: str) -> dict[str, Any]:
        """Return the claims of an ID token or a logout token that the issuer signed for this client."""
        key = self._keys.get_signing_key_from_jwt(token)
        algorithms = self._metadata["id_token_signing_alg_values_supported"]
        client, issuer = self._settings.client_id, self._settings.issuer
        return jwt.decode(token, key, algorithms=algorithms, audience=client, issuer=issuer)

    def _client(self, **options: str) -> OAuth2Session:
        return OAuth2Session(
            self._settings.client_id,
            self._settings.client_secret,
            scope=SCOPE,
            redirect_uri=f"{self._settings.here}/callback",
            code_challenge_method="S256",
            **options,
        )


def create_app(settings: Settings) -> FastAPI:
    """Build the application."""
    routes = Application(settings)
    app = FastAPI(openapi_url=None)
    app.add_middleware(
        SessionMiddleware, secret_key=secrets.token_urlsafe(), session_cookie="demo-server-side"
    )
    app.get("/")(routes.home)
    app.get("/sign-in")(routes.sign_in)
    app.get("/callback")(routes.callback)
    app.post("/sign-out")(routes.sign_out)
    app.post("/signed-out-elsewhere")(routes.signed_out_elsewhere)
    app.get("/readyz")(lambda: JSONResponse({"status": "ready"}))
    return app
