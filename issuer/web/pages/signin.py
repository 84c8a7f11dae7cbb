"""`GET` and `POST /signin`: the form for username and password, or the question whether to go on as who is signed in.

Passwords are verified by `authorize.sign_in`; what happens next is decided by the authorization endpoint.
"""

from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.accounts.login import hashing_queue
from issuer.accounts.registration import Registration
from issuer.accounts.user import User
from issuer.authorize.decision import Reason
from issuer.authorize.flow import Flow
from issuer.oauth import ErrorCode
from issuer.web.deps import AccountsDep, AuthorizeDep, SessionsDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.browser import set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.page_request import PageRequest, PageRequestDep
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


@dataclass(frozen=True)
class SignInPage:
    """The page for one visit of a browser."""

    page: PageRequest
    visit: Visit
    token: str
    may_register: bool

    @property
    def user(self) -> User | None:
        """The user who is signed in already."""
        return self.page.browser.user

    @property
    def asks_only(self) -> bool:
        """Whether the user is signed in already, and is only asked whether to go on."""
        return self.user is not None and self.visit.reason in _CHOOSING

    def rendered(
        self, username: str = "", error: PageError | None = None, response: ErrorResponse | None = None
    ) -> Response:
        """Return the page, with an error if there is one."""
        return render(
            self.page.request,
            "choose.html" if self.asks_only else "signin.html",
            status=response.status if response else 400 if error else 200,
            policy=LEAVING_POLICY,
            headers=response.headers if response else {},
            errors=(error,) if error else (),
            why=self._why(),
            username=username or self._hint(),
            user=self.user,
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
        username = self.user.username if self.user else "yours"
        return _WHY.get(self.visit.reason, "").format(application=application, username=username)

    def _hint(self) -> str:
        if self.visit.application and self.visit.application.login_hint:
            return self.visit.application.login_hint
        is_same = self.visit.reason in {Reason.LOGIN, Reason.MAX_AGE}
        return self.user.username if self.user and is_same else ""


def page_of(
    page: PageRequest, flow: Flow, registration: Registration, ticket: str, reason: str
) -> SignInPage:
    """Return the page for a visit; raise StoreError."""
    visit = visit_of(page, flow, ticket, reason)
    return SignInPage(page, visit, page.form_token(PURPOSE), may_register=registration.is_open)


@router.get(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
def show(
    page: PageRequestDep, authorize: AuthorizeDep, accounts: AccountsDep, ticket: str = "", reason: str = ""
) -> Response:
    """Show the form."""
    return page_of(page, authorize.flow, accounts.registration, ticket, reason).rendered()


@router.post(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
async def sign_in(
    page: PageRequestDep, authorize: AuthorizeDep, accounts: AccountsDep, sessions: SessionsDep, sent: FormDep
) -> Response:
    """Sign in, or go on as who is signed in."""
    form, session, origin = sent.parameters, page.browser.session, page.browser.origin
    username, password = form.get("username", ""), form.get("password", "")
    ticket, reason = form.get("ticket", ""), form.get("reason", "")
    shown = await anyio.to_thread.run_sync(
        page_of, page, authorize.flow, accounts.registration, ticket, reason
    )
    if not page.sent_own_form(sent, PURPOSE):
        return shown.rendered(username, page.form_refused)
    if shown.asks_only and session:
        await anyio.to_thread.run_sync(sessions.store.choose, session, page.now)
        return shown.visit.leave(page.request)
    if not username or not password:
        missing = "password" if username else "username"
        return shown.rendered(username, PageError(f"Enter your {missing}.", (missing,)))
    show_errors_by(page.request, lambda error: shown.refused(username, error))
    use_case = sessions.sign_in
    await anyio.to_thread.run_sync(use_case.check, username, origin, page.now)
    # Read the clock when the job runs: it may have been queued for a while.
    secret = await accounts.hashing_pool.run(
        hashing_queue(username, origin),
        lambda: use_case.authenticate(username, password, session, origin, page.now),
    )
    response = shown.visit.leave(page.request)
    set_session_cookie(response, page.issuer_url, secret)
    return response
