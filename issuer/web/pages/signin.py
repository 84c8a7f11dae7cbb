"""`GET` and `POST /signin`: the form for username and password, or the question whether to go on as who is signed in.

Passwords are verified by `authorize.sign_in`; what happens next is decided by the authorization endpoint.
"""

from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.accounts.login import hashing_queue
from issuer.authorize.decision import Reason
from issuer.oauth import ErrorCode
from issuer.web.deps import IssuerDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.browser import Browser, BrowserDep, set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD, FormTokens, FormTokensDep
from issuer.web.pages.rendering import LEAVING_POLICY, render
from issuer.web.pages.visit import Visit, visit_of

router = APIRouter(route_class=UnambiguousRoute)

PURPOSE = "signin"
SWITCH = "switch"
"""The reason of a user who wants to sign in with another account."""
PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a keyword
"""The reason of a user who has just chosen another password."""
_CHOOSING = frozenset({"", Reason.SELECT_ACCOUNT})
"""The reasons for which who is signed in may go on without a password."""
_WHY = {
    Reason.LOGIN: "{application} asks you to sign in again.",
    Reason.MAX_AGE: "You signed in a while ago. {application} asks you to sign in again.",
    Reason.OTHER_ACCOUNT: "{application} asks for another account than {username}.",
    Reason.EXPIRED: "This page was open for too long, so the sign-in starts again. Nothing was lost.",
    Reason.SESSION_ENDED: "Your session has ended. Sign in to go on.",
    PASSWORD_CHANGED: "Your password was changed. Sign in with the new one.",
    SWITCH: "You are signed in as {username}. When you sign in with another account, that session ends.",
}
"""Why a user is asked to sign in, by `reason`."""
_LOST = (
    "The request of the application is not valid in this browser. Start again in the application, or sign in."
)
FORM_REFUSED = "This form was too old, or did not come from this page. Nothing was lost: send it again."
COOKIES_NEEDED = "Your browser sent no cookie. Allow cookies for this site, then send the form again."


@dataclass(frozen=True)
class SignInPage:
    """The page for one visit of a browser."""

    request: Request
    browser: Browser
    visit: Visit
    token: str
    may_register: bool

    @property
    def asks_only(self) -> bool:
        """Whether the user is signed in already, and is only asked whether to go on."""
        return self.browser.user is not None and self.visit.reason in _CHOOSING

    def rendered(
        self, username: str = "", error: PageError | None = None, response: ErrorResponse | None = None
    ) -> Response:
        """Return the page, with an error if there is one."""
        return render(
            self.request,
            "choose.html" if self.asks_only else "signin.html",
            status=response.status if response else 400 if error else 200,
            policy=LEAVING_POLICY,
            headers=response.headers if response else {},
            errors=(error,) if error else (),
            why=self._why(),
            username=username or self._hint(),
            user=self.browser.user,
            visit=self.visit,
            form_token=self.token,
            may_register=self.may_register,
            switch=SWITCH,
        )

    def refused(self, username: str, response: ErrorResponse) -> Response:
        """Return the page with the error of an attempt."""
        fields = ("username", "password") if response.code == ErrorCode.INVALID_GRANT else ()
        return self.rendered(username, PageError(text_of(response), fields), response)

    def _why(self) -> str:
        if self.visit.is_lost:
            return _LOST
        application = self.visit.application.name if self.visit.application else "The application"
        username = self.browser.user.username if self.browser.user else "yours"
        return _WHY.get(self.visit.reason, "").format(application=application, username=username)

    def _hint(self) -> str:
        if self.visit.application and self.visit.application.login_hint:
            return self.visit.application.login_hint
        is_same = self.browser.user is not None and self.visit.reason in {Reason.LOGIN, Reason.MAX_AGE}
        return self.browser.user.username if self.browser.user and is_same else ""


def page_of(
    request: Request, issuer: IssuerDep, browser: Browser, forms: FormTokens, ticket: str, reason: str
) -> SignInPage:
    """Return the page for a visit; raise StoreError."""
    return SignInPage(
        request,
        browser,
        visit_of(issuer, browser, ticket, reason),
        forms.token(browser, PURPOSE, issuer.clock()),
        may_register=issuer.accounts.registration.is_open,
    )


@router.get(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
def show(
    request: Request,
    issuer: IssuerDep,
    browser: BrowserDep,
    forms: FormTokensDep,
    ticket: str = "",
    reason: str = "",
) -> Response:
    """Show the form."""
    return page_of(request, issuer, browser, forms, ticket, reason).rendered()


@router.post(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
async def sign_in(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, sent: FormDep
) -> Response:
    """Sign in, or go on as who is signed in."""
    form = sent.parameters
    username, password = form.get("username", ""), form.get("password", "")
    ticket, reason = form.get("ticket", ""), form.get("reason", "")
    page = await anyio.to_thread.run_sync(page_of, request, issuer, browser, forms, ticket, reason)
    if not forms.is_valid(request, form.get(FIELD, ""), browser, PURPOSE, issuer.clock()):
        text = FORM_REFUSED if browser.origin.device else COOKIES_NEEDED
        return page.rendered(username, PageError(text))
    if page.asks_only and browser.session:
        await anyio.to_thread.run_sync(issuer.sessions.store.choose, browser.session, issuer.clock())
        return page.visit.leave(request)
    if not username or not password:
        missing = "password" if username else "username"
        return page.rendered(username, PageError(f"Enter your {missing}.", (missing,)))
    show_errors_by(request, lambda error: page.refused(username, error))
    origin, use_case = browser.origin, issuer.sessions.sign_in
    await anyio.to_thread.run_sync(use_case.check, username, origin, issuer.clock())
    # Read the clock when the job runs: it may have been queued for a while.
    secret = await issuer.accounts.hashing_pool.run(
        hashing_queue(username, origin),
        lambda: use_case.authenticate(username, password, browser.session, origin, issuer.clock()),
    )
    response = page.visit.leave(request)
    set_session_cookie(response, issuer.settings.url, secret)
    return response
