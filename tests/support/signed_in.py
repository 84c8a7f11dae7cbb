"""Browsers that are signed in already, and sessions of applications."""

import uuid
from dataclasses import replace
from datetime import datetime

from fastapi.testclient import TestClient

from issuer.clients.client import Client
from issuer.digests import digest
from issuer.services import Issuer
from issuer.sessions.session import Acr, Amr, BrowserSession
from issuer.throttling.origin import Origin
from issuer.tokens.refresh import Family, stored
from issuer.tokens.refresh_text import new_refresh_token
from issuer.web.pages.browser import cookie_name
from support.sign_in_browser import SignInBrowser

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def start_session(issuer: Issuer, user_id: str, agent: str = FIREFOX) -> tuple[BrowserSession, str]:
    """Sign a user in, and return the session with the value of its cookie."""
    origin = Origin(agent, "203.0.113.7")
    started = issuer.sessions.store.start(
        user_id, None, Acr.PASSWORD, (Amr.PASSWORD,), origin, issuer.clock()
    )
    assert started
    return started


def use_session(issuer: Issuer, web: TestClient, secret: str, domain: str = "") -> None:
    """Let a browser send a session cookie to `domain`, or to the host of the issuer's URL."""
    host = issuer.settings.url.partition("://")[2].partition(":")[0]
    web.cookies.set(cookie_name(issuer.settings.url), secret, domain=domain or host, path="/")


def browser_of(issuer: Issuer, web: TestClient, user_id: str) -> tuple[SignInBrowser, BrowserSession]:
    """Return a browser in which a user is signed in."""
    session, secret = start_session(issuer, user_id)
    use_session(issuer, web, secret)
    return SignInBrowser(http=web), session


def start_family(
    issuer: Issuer,
    user_id: str,
    client: Client,
    now: datetime,
    browser_session: str | None = None,
) -> tuple[Family, str]:
    """Start a session of an application, and return it with its refresh token."""
    lifetime = issuer.settings.refresh_token_lifetime
    family = Family(
        id=str(uuid.uuid4()),
        user_id=user_id,
        client_id=client.id,
        scope=frozenset({"openid", "items:read"}),
        audience=(issuer.settings.audience,),
        created_at=now,
        expires_at=now + 12 * lifetime,
        user_agent="python-httpx/1.0",
        address="203.0.113.9",
    )
    family = replace(family, browser_session=browser_session)
    token = new_refresh_token(family.id)
    assert issuer.tokens.families.start(family, stored(token, family, now, lifetime))
    return family, token


def is_valid(issuer: Issuer, token: str) -> bool:
    """Whether the session of a refresh token can still be used."""
    found = issuer.tokens.families.find(digest(token))
    return found is not None and issuer.tokens.families.is_active(found.family.id, issuer.clock())
