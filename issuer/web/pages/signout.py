"""`/signout`: asks whether to sign out, ends the browser session, and says that the user is signed out.

`oauth.end_session` shows the same pages for requests of clients. What a request may lead to is decided in
`authorize.sign_out`.
"""

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from issuer.authorize.sign_out import LogoutRequest, SignOut
from issuer.oauth import ErrorCode
from issuer.sessions.session import BrowserSession
from issuer.web.deps import SessionsDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.errors import NO_STORE
from issuer.web.http.forms import FormDep
from issuer.web.pages.browser import delete_session_cookie
from issuer.web.pages.errors import PageError, message, render_error, text_of
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.paths import LOGOUT, SIGNOUT
from issuer.web.pages.rendering import FORM_POLICY, LEAVING_POLICY, redirect, render, with_cookies

router = APIRouter(include_in_schema=False, route_class=UnambiguousRoute)

TEMPLATE = "signout.html"
EXPIRED = PageError("This page was open for too long, or was sent by another site. Nothing has changed.")


def refused(request: Request, error: ErrorResponse) -> Response:
    """Return an error of sign-out as a page, never a redirect; that of a client's request leads to sign-out here."""
    if error.code != ErrorCode.INVALID_REQUEST:
        return render_error(request, error)
    return message(
        request,
        "The application cannot sign you out",
        text_of(error),
        status=error.status,
        headers=error.headers,
        link=(SIGNOUT, "Sign out here"),
    )


@router.get(SIGNOUT)
@renders_errors(refused)
async def signout_page(page: PageRequestDep, sessions: SessionsDep) -> Response:
    """Ask whether to sign out."""
    if page.browser.session is None:
        return signed_out(page.request)
    return await ask(page, sessions.sign_out)


@router.post(SIGNOUT)
@renders_errors(refused)
async def sign_out(page: PageRequestDep, sessions: SessionsDep, sent: FormDep) -> Response:
    """End the session, and go on to the page or to the client that asked for it."""

    def read() -> tuple[LogoutRequest, bool]:
        logout = sessions.sign_out.request(sent.parameters, page.now)
        return logout, page.sent_own_form(sent, TEMPLATE, logout.location or "")

    logout, is_own_form = await anyio.to_thread.run_sync(read)
    session, request = page.browser.session, page.request
    if session is None:
        return redirect(request, LOGOUT, **_fields(logout)) if logout.client else redirect(request, SIGNOUT)
    if not is_own_form:
        return await ask(page, sessions.sign_out, logout, EXPIRED)
    await end(page, sessions.sign_out, session)
    answer = leave(request, logout.location) if logout.location else redirect(request, SIGNOUT)
    delete_session_cookie(answer, page.issuer_url)
    return answer


async def end(page: PageRequest, use_case: SignOut, session: BrowserSession) -> None:
    """End a browser session, and have its clients told at once."""
    await anyio.to_thread.run_sync(use_case.end, session, page.now)
    page.request.app.state.logouts_due.set()


async def ask(
    page: PageRequest, use_case: SignOut, logout: LogoutRequest | None = None, *errors: PageError
) -> Response:
    """Return the page that asks; `logout` is what a client asks for."""
    logout, session = logout or LogoutRequest(), page.browser.session

    def prepared() -> dict[str, Any]:
        token = page.form_token(TEMPLATE, logout.location or "")
        return {"form_token": token, "recipients": use_case.recipients(session) if session else []}

    return _page(
        page.request,
        status=400 if errors else 200,
        policy=LEAVING_POLICY if logout.location else FORM_POLICY,
        errors=errors,
        user=page.browser.user,
        client=logout.client,
        fields=_fields(logout),
        **await anyio.to_thread.run_sync(prepared),
    )


def signed_out(request: Request, logout: LogoutRequest | None = None) -> Response:
    """Return the page that says that nobody is signed in, with a link back to the client that asked, if any."""
    logout = logout or LogoutRequest()
    return _page(request, is_signed_out=True, client=logout.client, location=logout.location)


def leave(request: Request, location: str) -> Response:
    """Return a redirect to a client that is followed by GET: it never gets the form, RFC 9700 section 4.12."""
    return with_cookies(request, RedirectResponse(location, 303, NO_STORE))


def _fields(logout: LogoutRequest) -> Mapping[str, str]:
    """Return the parameters that describe a request without its hint, which is not needed any more."""
    fields = {
        "client_id": logout.client.id if logout.client else None,
        "post_logout_redirect_uri": logout.redirect_uri,
        "state": logout.state if logout.redirect_uri else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _page(request: Request, **values: Any) -> Response:
    absent = {"is_signed_out": False, "user": None, "client": None, "location": None}
    return render(request, TEMPLATE, **{**absent, **values})
