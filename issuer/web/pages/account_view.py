"""What `/account` shows: the user, sessions and connected applications, as they are stored.

Changes are made by `account`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import structlog
from fastapi import Depends

from issuer.accounts.user import User
from issuer.authorize.applications import Application, connected
from issuer.authorize.consent_store import Consents
from issuer.authorize.scope_texts import ScopeText, in_words
from issuer.clients.client import FIRST_PARTY_ID
from issuer.services import Clients, Sessions, Tokens
from issuer.sessions.session import BrowserSession
from issuer.throttling.user_agents import device_of
from issuer.tokens.refresh import Family
from issuer.web.deps import AuthorizeDep, ClientsDep, SessionsDep, TokensDep
from issuer.web.pages.browser import Browser
from issuer.web.pages.words import date_of, time_since

log = structlog.get_logger("issuer.web")


@dataclass(frozen=True)
class SignedIn:
    """A browser with a session, and its user."""

    browser: Browser
    user: User
    session: BrowserSession


def signed_in(browser: Browser) -> SignedIn | None:
    """Return the browser with its user; None if nobody is signed in."""
    if browser.user is None or browser.session is None:
        return None
    return SignedIn(browser, browser.user, browser.session)


@dataclass(frozen=True)
class ShownSession:
    """A browser that is signed in, or a program with tokens that stay valid without one."""

    id: str
    device: str
    application: str | None
    """None: the issuer itself, or its own log-in."""
    address: str
    since: str
    used: str
    is_current: bool = False


@dataclass(frozen=True)
class ShownApplication:
    """An application that the user is connected with."""

    client_id: str
    name: str
    scopes: list[ScopeText]
    since: str
    used: str | None


@dataclass(frozen=True)
class Stored:
    """Where the page finds what it shows and changes."""

    sessions: Sessions
    tokens: Tokens
    consents: Consents
    clients: Clients


async def get_stored(
    sessions: SessionsDep, tokens: TokensDep, authorize: AuthorizeDep, clients: ClientsDep
) -> Stored:
    """Return where the page finds what it shows and changes."""
    return Stored(sessions, tokens, authorize.consents, clients)


StoredDep = Annotated[Stored, Depends(get_stored)]


@dataclass(frozen=True)
class Overview:
    """All that the page lists."""

    browsers: list[ShownSession]
    programs: list[ShownSession]
    applications: list[ShownApplication]


def overview(stored: Stored, who: SignedIn, now: datetime) -> Overview:
    """Return what is stored of a user; rows that cannot be read are logged and left out."""
    browsers, damaged = stored.sessions.store.active(who.user.id, now)
    families, damaged_families = stored.tokens.families.active(who.user.id, now)
    consents, damaged_consents = stored.consents.of_user(who.user.id)
    for error in (*damaged, *damaged_families):
        log.error("damaged session not listed", reason=str(error))
    for error in damaged_consents:
        log.error("damaged consent not listed", reason=str(error))
    applications = connected(consents, families, stored.clients.store.by_id)
    names = {each.client_id: _name(each) for each in applications}
    # What ends with a browser session is part of it.
    programs = [(family, used_at) for family, used_at in families if family.browser_session is None]
    return Overview(
        browsers=_current_first(_browser(each, who.session, now) for each in browsers),
        programs=[_program(family, used_at, names, now) for family, used_at in programs],
        applications=[_application(each, now) for each in applications],
    )


def _current_first(sessions: Iterable[ShownSession]) -> list[ShownSession]:
    return sorted(sessions, key=lambda each: not each.is_current)


def _browser(session: BrowserSession, current: BrowserSession, now: datetime) -> ShownSession:
    return ShownSession(
        id=session.id,
        device=device_of(session.user_agent),
        application=None,
        address=session.address,
        since=date_of(session.created_at),
        used=time_since(session.seen_at, now),
        is_current=session.id == current.id,
    )


def _program(family: Family, used_at: datetime, names: dict[str, str], now: datetime) -> ShownSession:
    return ShownSession(
        id=family.id,
        device=device_of(family.user_agent),
        application=None if family.client_id == FIRST_PARTY_ID else names[family.client_id],
        address=family.address,
        since=date_of(family.created_at),
        used=time_since(used_at, now),
    )


def _application(application: Application, now: datetime) -> ShownApplication:
    return ShownApplication(
        client_id=application.client_id,
        name=_name(application),
        scopes=in_words(application.scope),
        since=date_of(application.since),
        used=time_since(application.used_at, now) if application.used_at else None,
    )


def _name(application: Application) -> str:
    return application.name or "An application that was removed"
