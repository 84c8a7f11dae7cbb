"""`/account`: a user sees what is stored, ends sessions, and withdraws what applications were allowed.

What is shown is collected by `account_view`; `own_profile`, `own_password` and `own_deletion` are pages of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from issuer.oauth import OAuthRequest
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account_view import SignedIn, Stored, StoredDep, overview, signed_in
from issuer.web.pages.errors import PageError, render_error
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect, render

router = APIRouter(include_in_schema=False)


class Action(StrEnum):
    """What the forms of the page do: the path of each below the page."""

    END_SESSION = "sessions/end"
    END_OTHERS = "sessions/end-others"
    WITHDRAW = "applications/withdraw"


class Done(StrEnum):
    """What was done before the page is shown: the parameter `done` of its URL."""

    PASSWORD = "password"  # noqa: S105 - a keyword
    SESSION = "session"
    OTHERS = "others"
    WITHDRAWN = "withdrawn"
    PROFILE = "profile"
    ADDRESS_ASKED = "address"


_NOTICES = {
    Done.PASSWORD: "Your password was changed. All other sessions were ended.",
    Done.SESSION: "The session was ended.",
    Done.OTHERS: "All other sessions were ended.",
    Done.PROFILE: "Your name and address were saved.",
    Done.ADDRESS_ASKED: "A message is on its way to the address. Open the link in it within a day to confirm it.",
    Done.WITHDRAWN: "The application was disconnected, and its sessions were ended.",
}
OUTDATED = PageError("This page was not up to date, so nothing was changed. Please try again.")


def _purpose(action: Action) -> str:
    return f"account {action}"


@router.get(paths.ACCOUNT)
@renders_errors(render_error)
async def show(page: PageRequestDep, stored: StoredDep, done: Annotated[str, Query()] = "") -> Response:
    """Show the account of the user who is signed in."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    return await anyio.to_thread.run_sync(_rendered, page, stored, who, done)


def _rendered(
    page: PageRequest, stored: Stored, who: SignedIn, done: str = "", errors: tuple[PageError, ...] = ()
) -> Response:
    return render(
        page.request,
        "account.html",
        status=400 if errors else 200,
        user=who.user,
        shown=overview(stored, who, page.now),
        actions=Action,
        form_token=lambda action, subject="": page.form_token(_purpose(action), subject),
        notice=_NOTICES[Done(done)] if done in set(Done) else "",
        errors=errors,
    )


@router.post(f"{paths.ACCOUNT}/{Action.END_SESSION}")
@renders_errors(render_error)
async def end_session(page: PageRequestDep, stored: StoredDep, sent: FormDep) -> Response:
    """End one session of the user, of a browser or of a program."""
    subject, families = sent.parameters.get("session", ""), stored.tokens.families

    def end(who: SignedIn, now: datetime) -> Done:
        if not families.end_browser_session(subject, now, user_id=who.user.id):
            families.end(subject, now, user_id=who.user.id)
        return Done.SESSION

    return await _changed(page, stored, sent, _Change(Action.END_SESSION, subject, end))


@router.post(f"{paths.ACCOUNT}/{Action.END_OTHERS}")
@renders_errors(render_error)
async def end_others(page: PageRequestDep, stored: StoredDep, sent: FormDep) -> Response:
    """End all sessions of the user except that of this browser."""

    def end(who: SignedIn, now: datetime) -> Done:
        stored.tokens.families.end_others(who.user.id, who.session.id, now)
        return Done.OTHERS

    return await _changed(page, stored, sent, _Change(Action.END_OTHERS, "", end))


@router.post(f"{paths.ACCOUNT}/{Action.WITHDRAW}")
@renders_errors(render_error)
async def withdraw(page: PageRequestDep, stored: StoredDep, sent: FormDep) -> Response:
    """Withdraw what the user has allowed an application, and end its sessions."""
    subject = sent.parameters.get("application", "")

    def end(who: SignedIn, now: datetime) -> Done:
        stored.consents.withdraw(who.user.id, subject, now)
        return Done.WITHDRAWN

    return await _changed(page, stored, sent, _Change(Action.WITHDRAW, subject, end))


@dataclass(frozen=True)
class _Change:
    """What a form asks for, and what does it."""

    action: Action
    subject: str
    perform: Callable[[SignedIn, datetime], Done]


async def _changed(page: PageRequest, stored: Stored, sent: OAuthRequest, change: _Change) -> Response:
    """Do what a form of this page asks for, and return to the page."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)

    def perform() -> Response:
        if not page.sent_own_form(sent, _purpose(change.action), change.subject):
            return _rendered(page, stored, who, errors=(OUTDATED,))
        return redirect(page.request, paths.ACCOUNT, done=change.perform(who, page.now))

    return await anyio.to_thread.run_sync(perform)
