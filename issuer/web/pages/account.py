"""`/account`: a user sees what is stored, ends sessions, and withdraws what applications were allowed.

What is shown is collected by `account_view`; `own_password` and `own_deletion` are pages of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from issuer.services import Issuer
from issuer.web.deps import IssuerDep
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account_view import Overview, SignedIn, overview, signed_in
from issuer.web.pages.browser import BrowserDep
from issuer.web.pages.errors import PageError, render_error
from issuer.web.pages.form_tokens import FIELD, FormTokens, FormTokensDep
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


_NOTICES = {
    Done.PASSWORD: "Your password was changed. All other sessions were ended.",
    Done.SESSION: "The session was ended.",
    Done.OTHERS: "All other sessions were ended.",
    Done.WITHDRAWN: "The application was disconnected, and its sessions were ended.",
}
OUTDATED = PageError("This page was not up to date, so nothing was changed. Please try again.")


@dataclass(frozen=True)
class _Forms:
    """Makes the tokens of the forms of one page."""

    tokens: FormTokens
    who: SignedIn
    now: datetime

    def token(self, action: Action, subject: str = "") -> str:
        """Return the token of the form that does `action` to a session or an application."""
        return self.tokens.token(self.who.browser, f"account {action}", self.now, subject)


@router.get(paths.ACCOUNT)
@renders_errors(render_error)
async def show(
    request: Request,
    issuer: IssuerDep,
    browser: BrowserDep,
    forms: FormTokensDep,
    done: Annotated[str, Query()] = "",
) -> Response:
    """Show the account of the user who is signed in."""
    who = signed_in(browser)
    if who is None:
        return redirect(request, paths.SIGNIN)
    return await anyio.to_thread.run_sync(_loaded_page, request, issuer, who, forms, done)


def _loaded_page(
    request: Request,
    issuer: Issuer,
    who: SignedIn,
    forms: FormTokens,
    done: str = "",
    errors: tuple[PageError, ...] = (),
) -> Response:
    now = issuer.clock()
    return _page(request, overview(issuer, who, now), _Forms(forms, who, now), done, errors)


def _page(
    request: Request, shown: Overview, forms: _Forms, done: str, errors: tuple[PageError, ...]
) -> Response:
    return render(
        request,
        "account.html",
        status=400 if errors else 200,
        user=forms.who.user,
        shown=shown,
        actions=Action,
        form_token=forms.token,
        notice=_NOTICES[Done(done)] if done in set(Done) else "",
        errors=errors,
    )


@router.post(f"{paths.ACCOUNT}/{Action.END_SESSION}")
@renders_errors(render_error)
async def end_session(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """End one session of the user, of a browser or of a program."""
    subject = form.parameters.get("session", "")

    def end(who: SignedIn, now: datetime) -> Done:
        families, owner = issuer.tokens.families, who.user.id
        if not families.end_browser_session(subject, now, user_id=owner):
            families.end(subject, now, user_id=owner)
        return Done.SESSION

    change = _Change(Action.END_SESSION, subject, form.parameters.get(FIELD, ""), end)
    return await anyio.to_thread.run_sync(_changed, request, issuer, signed_in(browser), forms, change)


@router.post(f"{paths.ACCOUNT}/{Action.END_OTHERS}")
@renders_errors(render_error)
async def end_others(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """End all sessions of the user except that of this browser."""

    def end(who: SignedIn, now: datetime) -> Done:
        issuer.tokens.families.end_others(who.user.id, who.session.id, now)
        return Done.OTHERS

    change = _Change(Action.END_OTHERS, "", form.parameters.get(FIELD, ""), end)
    return await anyio.to_thread.run_sync(_changed, request, issuer, signed_in(browser), forms, change)


@router.post(f"{paths.ACCOUNT}/{Action.WITHDRAW}")
@renders_errors(render_error)
async def withdraw(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """Withdraw what the user has allowed an application, and end its sessions."""
    subject = form.parameters.get("application", "")

    def end(who: SignedIn, now: datetime) -> Done:
        issuer.authorize.consents.withdraw(who.user.id, subject, now)
        return Done.WITHDRAWN

    change = _Change(Action.WITHDRAW, subject, form.parameters.get(FIELD, ""), end)
    return await anyio.to_thread.run_sync(_changed, request, issuer, signed_in(browser), forms, change)


@dataclass(frozen=True)
class _Change:
    """What a form asks for, and what does it."""

    action: Action
    subject: str
    token: str
    perform: Callable[[SignedIn, datetime], Done]


def _changed(
    request: Request, issuer: Issuer, who: SignedIn | None, forms: FormTokens, change: _Change
) -> Response:
    """Do what a form of this page asks for, and return to the page."""
    now = issuer.clock()
    if who is None:
        return redirect(request, paths.SIGNIN)
    purpose = f"account {change.action}"
    if not forms.is_valid(request, change.token, who.browser, purpose, now, change.subject):
        return _loaded_page(request, issuer, who, forms, errors=(OUTDATED,))
    return redirect(request, paths.ACCOUNT, done=change.perform(who, now))
