"""Browsers that are signed in, and clients that are told when they sign out."""

import re
import uuid
from datetime import datetime

from fastapi.testclient import TestClient

from issuer.administration.clients import register_client
from issuer.clients.client import Client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession, SignIn
from issuer.throttling.origin import Origin
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.refresh import Family
from issuer.web.pages.browser import cookie_name
from support.defaults import START

RETURN_URI = "https://app.example/signed-out"


def sign_in(issuer: Issuer, web: TestClient, user_id: str, now: datetime = START) -> BrowserSession:
    """Give the browser `web` a session of a user, as signing in does."""
    started = issuer.sessions.store.start(user_id, None, "1", ("pwd",), Origin(), now)
    assert started
    session, secret = started
    web.cookies.set(cookie_name(issuer.settings.url), secret)
    return session


def application(
    issuer: Issuer, name: str = "Notes", *, uri: str = RETURN_URI, backchannel: str | None = None
) -> Client:
    """Register a client that users return to at `uri`."""
    client, _ = register_client(
        issuer.clients.store,
        name,
        AuthMethod.BASIC,
        frozenset({"items:read"}),
        (),
        START,
        redirect_uris=("https://app.example/callback",),
        post_logout_redirect_uris=(uri,),
        backchannel_logout_uri=backchannel,
    )
    return client


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of a page's form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def is_signed_in(issuer: Issuer, session: BrowserSession) -> bool:
    """Return whether a session is active at the issuer."""
    sessions, _ = issuer.sessions.store.active(session.user_id, issuer.clock())
    return session.id in {each.id for each in sessions}


def hint_for(issuer: Issuer, session: BrowserSession, client: Client) -> str:
    """Return an ID token of a client for a session."""
    now = issuer.clock()
    sid = issuer.sessions.store.sid(session, client.id)
    sign_in = SignIn(None, sid, session.auth_time, session.acr, session.amr)
    family = Family(
        str(uuid.uuid4()), session.user_id, client.id, frozenset({"openid"}), (), now, session.expires_at
    )
    tokens = IdTokens(issuer.tokens.jwt_signer)
    key = issuer.tokens.jwt_signer.signing_key(now)
    return tokens.sign(family, sign_in, "an access token", None, key, now)
