"""The next step of a valid authorization request, as a pure function of facts: a page, an error, or the code.

`flow` collects the facts and takes the step. Progress is not stored: that something was done for this request is read
from when it was done, so that the back button, several tabs and repeated requests need no care.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from issuer.authorize.errors import ConsentRequired, LoginRequired, UnmetAuthenticationRequirements
from issuer.authorize.request import AuthorizationRequest, Prompt
from issuer.oauth import OAuthError
from issuer.sessions.session import Acr, BrowserSession


class Page(StrEnum):
    """A page that asks the user for something; the value is its path."""

    SIGN_IN = "/signin"
    SIGN_UP = "/signup"
    CONSENT = "/consent"


class Reason(StrEnum):
    """Why a user is asked to sign in again."""

    LOGIN = "login"
    """The client demands it."""
    MAX_AGE = "max_age"
    """The user was authenticated too long ago for this client."""
    SELECT_ACCOUNT = "select_account"
    """The client lets the user choose an account."""
    OTHER_ACCOUNT = "other_account"
    """The client expects another user."""
    SESSION_ENDED = "session_ended"
    """The user signed out, or the session expired, while another page was open."""
    EXPIRED = "expired"
    """The page waited for more than an hour, and the request began anew."""


@dataclass(frozen=True)
class Ask:
    """Show a page first."""

    page: Page
    reason: Reason | None = None


@dataclass(frozen=True)
class Refuse:
    """Send an error to the client."""

    error: OAuthError


@dataclass(frozen=True)
class IssueCode:
    """Send a code to the client."""

    session: BrowserSession


Decision = Ask | Refuse | IssueCode


class ConsentAnswer(Protocol):
    """Says whether the user still has to consent; asked only when a user is signed in as the request needs it."""

    def __call__(self, session: BrowserSession) -> bool:
        """Return whether the user of `session` has to be asked."""


@dataclass(frozen=True)
class Facts:
    """What a decision depends on, beside the request."""

    session: BrowserSession | None
    needs_consent: ConsentAnswer
    started: datetime
    """When the request began."""
    now: datetime


def next_step(request: AuthorizationRequest, facts: Facts) -> Decision:
    """Return the next step of a request, OpenID Connect Core section 3.1.2.3 and 3.1.2.4."""
    if request.essential_acr and not set(request.essential_acr) & set(Acr):
        return Refuse(UnmetAuthenticationRequirements())
    session, is_silent = facts.session, Prompt.NONE in request.prompt
    missing = _missing_sign_in(request, facts)
    if session is None or missing is not None:
        return Refuse(LoginRequired()) if is_silent else missing or Ask(Page.SIGN_IN)
    if facts.needs_consent(session):
        return Refuse(ConsentRequired()) if is_silent else Ask(Page.CONSENT)
    return IssueCode(session)


def _missing_sign_in(request: AuthorizationRequest, facts: Facts) -> Ask | None:
    """Return what the user has to do to be signed in as the request needs it; None: nothing."""
    session, prompt = facts.session, request.prompt
    if session is None:
        return Ask(Page.SIGN_UP if Prompt.CREATE in prompt else Page.SIGN_IN)
    is_stale = session.auth_time < facts.started
    # Fresh is enough, however long the user takes for consent: with a short max_age this would never end otherwise.
    is_too_old = is_stale and _is_too_old(facts.now - session.auth_time, request.max_age)
    is_other = request.expected_user not in {None, session.user_id}
    is_weak = bool(request.essential_acr) and session.acr not in request.essential_acr
    is_chosen = session.chosen_at >= facts.started
    steps = (
        (Prompt.CREATE in prompt and is_stale, Ask(Page.SIGN_UP)),
        (is_other, Ask(Page.SIGN_IN, Reason.OTHER_ACCOUNT)),
        ((Prompt.LOGIN in prompt and is_stale) or is_weak, Ask(Page.SIGN_IN, Reason.LOGIN)),
        (is_too_old, Ask(Page.SIGN_IN, Reason.MAX_AGE)),
        (Prompt.SELECT_ACCOUNT in prompt and not is_chosen, Ask(Page.SIGN_IN, Reason.SELECT_ACCOUNT)),
    )
    return next((step for is_missing, step in steps if is_missing), None)


def _is_too_old(age: timedelta, max_age: timedelta | None) -> bool:
    """Return whether the user was authenticated too long ago; `max_age=0` is the same as `prompt=login`."""
    return max_age is not None and (age > max_age or not max_age)
