"""Browsers that are signed in, and clients that are told when they sign out."""

import re
from datetime import datetime

from fastapi.testclient import TestClient

from issuer.accounts.user import User
from issuer.administration.clients import register_client
from issuer.clients.client import Client
from issuer.oauth import AuthMethod
from issuer.sessions.session import BrowserSession
from issuer.throttling.origin import Origin
from issuer.web.pages.browser import cookie_name
from issuer.wiring import Issuer
from support.defaults import START

RETURN_URI = "https://app.example/signed-out"


def sign_in(issuer: Issuer, web: TestClient, user_id: str, now: datetime = START) -> BrowserSession:
    """Give the browser `web` a session of a user, as signing in does."""
    started = issuer.sessions.store.start(user_id, None, "1", ("pwd",), Origin(), now)
    assert started
    session, secret = started
    web.cookies.set(cookie_name(issuer.settings.url), secret)
    return session


def application(issuer: Issuer, name: str = "Notes", *, backchannel: str | None = None) -> Client:
    """Register a client that users return to at `RETURN_URI`."""
    client, _ = register_client(
        issuer.clients.store,
        name,
        AuthMethod.BASIC,
        frozenset({"items:read"}),
        (),
        START,
        redirect_uris=("https://app.example/callback",),
        post_logout_redirect_uris=(RETURN_URI,),
        backchannel_logout_uri=backchannel,
    )
    return client


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of a page's form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def owner(issuer: Issuer, user_id: str) -> User:
    """Return a user who exists."""
    user = issuer.accounts.store.by_id(user_id)
    assert user
    return user
