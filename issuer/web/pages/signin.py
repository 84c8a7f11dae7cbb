"""`GET` and `POST /signin`: the form for username and password, or the question whether to go on as who is signed in.

Passwords are verified by `authorize.sign_in`; what happens next is decided by the authorization endpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Response

from issuer.accounts.login import hashing_queue
from issuer.accounts.user import User
from issuer.authorize.decision import Reason
from issuer.oauth import ErrorCode
from issuer.web.deps import AccountsDep, AdministrationDep, AuthorizeDep, SessionsDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.browser import set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import LEAVING_POLICY, render
from issuer.web.pages.visit import Visit, visit_of

router = APIRouter(route_class=UnambiguousRoute)

PURPOSE = "signin"
REMEMBER = "remember"
"""The field of the form with which a user chooses to stay signed in."""
SWITCH = "switch"
"""The reason of a user who wants to sign in with another account."""
PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a keyword
"""The reason of a user who has just chosen another password."""
WELCOME = "welcome"
"""The reason of a user who was invited, and has just chosen the first password."""
_CHOOSING = frozenset({"", Reason.SELECT_ACCOUNT})
"""The reasons for which who is signed in may go on without a password."""
_SAME_USER = frozenset({Reason.LOGIN, Reason.MAX_AGE})
"""The reasons for which who is signed in is asked for the password again."""
_WHY = {
    Reason.LOGIN: "{application} asks you to sign in again.",
    Reason.MAX_AGE: "You signed in a while ago. {application} asks you to sign in again.",
    Reason.OTHER_ACCOUNT: "{application} asks for another account than {username}.",
    Reason.EXPIRED: "This page was open for too long, so the sign-in starts again. Nothing was lost.",
    Reason.SESSION_ENDED: "Your session has ended. Sign in to go on.",
    PASSWORD_CHANGED: "Your password was changed. Sign in with the new one.",
    WELCOME: "Your account is ready. Sign in with the password that you have just chosen.",
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
    may_be_remembered: bool
    sends_mail: bool
    sent: Mapping[str, str] = field(repr=False)

    @property
    def user(self) -> User | None:
        """The user who is signed in already."""
        return self.page.browser.user

    @property
    def asks_only(self) -> bool:
        """Whether the user is signed in already, and is only asked whether to go on."""
        return self.user is not None and self.visit.reason in _CHOOSING

    @property
    def is_remembered(self) -> bool:
        """Whether the user chooses to stay signed in on this device, or has before."""
        session = self.page.browser.session
        before = session is not None and session.is_remembered and self.visit.reason in _SAME_USER
        chosen = REMEMBER in self.sent if FIELD in self.sent else before
        return self.may_be_remembered and chosen

    def rendered(self, error: PageError | None = None, response: ErrorResponse | None = None) -> Response:
        """Return the page with what was sent, and with an error if there is one."""
        return render(
            self.page.request,
            "choose.html" if self.asks_only else "signin.html",
            status=response.status if response else 400 if error else 200,
            policy=LEAVING_POLICY,
            headers=response.headers if response else {},
            errors=(error,) if error else (),
            why=self._why(),
            username=self.sent.get("username") or self._hint(),
            user=self.user,
            visit=self.visit,
            form_token=self.token,
            may_register=self.may_register,
            may_be_remembered=self.may_be_remembered,
            forgot=paths.FORGOT if self.sends_mail else "",
            is_remembered=self.is_remembered,
            switch=SWITCH,
        )

    def refused(self, response: ErrorResponse) -> Response:
        """Return the page with the error of an attempt."""
        fields = ("username", "password") if response.code == ErrorCode.INVALID_GRANT else ()
        return self.rendered(PageError(text_of(response), fields), response)

    def _why(self) -> str:
        if self.visit.is_lost:
            return _LOST
        application = self.visit.application.name if self.visit.application else "The application"
        username = self.user.username if self.user else "yours"
        return _WHY.get(self.visit.reason, "").format(application=application, username=username)

    def _hint(self) -> str:
        if self.visit.application and self.visit.application.login_hint:
            return self.visit.application.login_hint
        return self.user.username if self.user and self.visit.reason in _SAME_USER else ""


class SignInPages:
    """Makes the page for a visit."""

    def __init__(
        self,
        page: PageRequestDep,
        authorize: AuthorizeDep,
        accounts: AccountsDep,
        sessions: SessionsDep,
        administration: AdministrationDep,
    ) -> None:
        self._page = page
        self._flow = authorize.flow
        self._registration = accounts.registration
        self._may_be_remembered = sessions.store.may_be_remembered
        self._sends_mail = administration.mails.is_on

    def show(self, sent: Mapping[str, str]) -> SignInPage:
        """Return the page that these parameters describe; raise StoreError."""
        return SignInPage(
            self._page,
            visit_of(self._page, self._flow, sent.get("ticket", ""), sent.get("reason", "")),
            self._page.form_token(PURPOSE),
            may_register=self._registration.is_open,
            may_be_remembered=self._may_be_remembered,
            sends_mail=self._sends_mail,
            sent=sent,
        )


SignInPagesDep = Annotated[SignInPages, Depends(SignInPages)]


@router.get(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
def show(pages: SignInPagesDep, ticket: str = "", reason: str = "") -> Response:
    """Show the form."""
    return pages.show({"ticket": ticket, "reason": reason}).rendered()


@router.post(paths.SIGNIN, include_in_schema=False)
@renders_errors(render_error)
async def sign_in(
    page: PageRequestDep, pages: SignInPagesDep, accounts: AccountsDep, sessions: SessionsDep, sent: FormDep
) -> Response:
    """Sign in, or go on as who is signed in."""
    form, session, origin = sent.parameters, page.browser.session, page.browser.origin
    username, password = form.get("username", ""), form.get("password", "")
    shown = await anyio.to_thread.run_sync(pages.show, form)
    if not page.sent_own_form(sent, PURPOSE):
        return shown.rendered(page.form_refused)
    if shown.asks_only and session:
        await anyio.to_thread.run_sync(sessions.store.choose, session, page.now)
        return shown.visit.leave(page.request)
    if not username or not password:
        missing = "password" if username else "username"
        return shown.rendered(PageError(f"Enter your {missing}.", (missing,)))
    show_errors_by(page.request, shown.refused)
    use_case, remembers = sessions.sign_in, shown.is_remembered
    await anyio.to_thread.run_sync(use_case.check, username, origin, page.now)
    # Read the clock when the job runs: it may have been queued for a while.
    secret = await accounts.hashing_pool.run(
        hashing_queue(username, origin),
        lambda: use_case.authenticate(username, password, session, origin, page.now, is_remembered=remembers),
    )
    response = shown.visit.leave(page.request)
    remembered = sessions.store.remembered if remembers else timedelta(0)
    set_session_cookie(response, page.issuer_url, secret, remembered)
    return response
