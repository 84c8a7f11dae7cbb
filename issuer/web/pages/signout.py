"""`/signout`: asks whether to sign out, ends the browser session, and says that the user is signed out.

`oauth.end_session` shows the same pages for requests of clients. What a request may lead to is decided in
`authorize.sign_out`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from issuer.authorize.sign_out import LogoutRequest
from issuer.sessions.session import BrowserSession
from issuer.web.deps import IssuerDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.errors import NO_STORE
from issuer.web.http.forms import FormDep
from issuer.web.http.prefix import path_of
from issuer.web.pages.browser import Browser, BrowserDep, delete_session_cookie
from issuer.web.pages.form_tokens import FIELD, FormTokens, FormTokensDep
from issuer.web.pages.rendering import FORM_POLICY, LEAVING_POLICY, SAME_ORIGIN_REFERRER, render
from issuer.wiring import Issuer

router = APIRouter(include_in_schema=False, route_class=UnambiguousRoute)

PAGE, ENDPOINT = "/signout", "/oauth2/logout"
TEMPLATE = "signout.html"


def refused(request: Request, error: ErrorResponse) -> Response:
    """Return an error of sign-out as a page; it never redirects."""
    page = _page(request, status=error.status, problem=error.description)
    page.headers.update(error.headers)
    return page


@router.get(PAGE)
@renders_errors(refused)
async def signout_page(
    request: Request, issuer: IssuerDep, browser: BrowserDep, tokens: FormTokensDep, cookies: Response
) -> Response:
    """Ask whether to sign out."""
    if browser.session is None:
        return signed_out(request)
    return await ask(request, issuer, browser, tokens, cookies)


@router.post(PAGE)
@renders_errors(refused)
async def sign_out(
    request: Request,
    issuer: IssuerDep,
    browser: BrowserDep,
    tokens: FormTokensDep,
    form: FormDep,
    cookies: Response,
) -> Response:
    """End the session, and go on to the page or to the client that asked for it."""
    now, given = issuer.clock(), form.parameters
    logout = await anyio.to_thread.run_sync(issuer.logout.sign_out.request, given, now)
    if browser.session is None:
        return see_other(own_location(issuer, logout))
    shown = logout.location or ""
    if not tokens.is_valid(request, given.get(FIELD, ""), browser, TEMPLATE, now, shown):
        problem = "This page was open for too long, or was sent by another site. Nothing has changed."
        return await ask(request, issuer, browser, tokens, cookies, logout, problem)
    await end(request, issuer, browser.session)
    answer = see_other(logout.location or f"{path_of(issuer.settings.url)}{PAGE}")
    delete_session_cookie(answer, issuer.settings.url)
    return answer


async def end(request: Request, issuer: Issuer, session: BrowserSession) -> None:
    """End a browser session, and have its clients told at once."""
    await anyio.to_thread.run_sync(issuer.logout.sign_out.end, session, issuer.clock())
    request.app.state.logouts_due.set()


async def ask(
    request: Request,
    issuer: Issuer,
    browser: Browser,
    tokens: FormTokens,
    cookies: Response,
    logout: LogoutRequest | None = None,
    problem: str = "",
) -> Response:
    """Return the page that asks; `logout` is what a client asks for. `cookies` has the device cookie to set."""
    logout, session = logout or LogoutRequest(), browser.session

    def prepared() -> dict[str, Any]:
        token = tokens.token(browser, TEMPLATE, issuer.clock(), logout.location or "")
        told = issuer.logout.sign_out.recipients(session) if session else []
        return {"form_token": token, "recipients": told}

    page = _page(
        request,
        status=400 if problem else 200,
        policy=LEAVING_POLICY if logout.location else FORM_POLICY,
        problem=problem,
        user=browser.user,
        client=logout.client,
        fields=_fields(logout),
        **await anyio.to_thread.run_sync(prepared),
    )
    page.raw_headers.extend(cookies.raw_headers)
    return page


def signed_out(request: Request, logout: LogoutRequest | None = None) -> Response:
    """Return the page that says that nobody is signed in, with a link back to the client that asked, if any."""
    logout = logout or LogoutRequest()
    return _page(request, is_signed_out=True, client=logout.client, location=logout.location)


def own_location(issuer: Issuer, logout: LogoutRequest) -> str:
    """Return the path of the page for a logout request."""
    fields, prefix = _fields(logout), path_of(issuer.settings.url)
    return f"{prefix}{ENDPOINT}?{urlencode(fields)}" if fields else f"{prefix}{PAGE}"


def see_other(location: str) -> Response:
    """Return a redirect that is followed by GET: a client never gets the form, RFC 9700 section 4.12."""
    return RedirectResponse(location, 303, {**NO_STORE, "Referrer-Policy": SAME_ORIGIN_REFERRER})


def _fields(logout: LogoutRequest) -> Mapping[str, str]:
    """Return the parameters that describe a request without its hint, which is not needed any more."""
    fields = {
        "client_id": logout.client.id if logout.client else None,
        "post_logout_redirect_uri": logout.redirect_uri,
        "state": logout.state if logout.redirect_uri else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _page(
    request: Request, *, status: int = 200, policy: str = FORM_POLICY, problem: str = "", **values: Any
) -> Response:
    absent = {"is_signed_out": False, "user": None, "client": None, "location": None}
    errors = [problem] if problem else []
    return render(request, TEMPLATE, status=status, policy=policy, errors=errors, **{**absent, **values})
