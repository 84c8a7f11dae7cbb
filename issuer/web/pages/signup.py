"""`GET` and `POST /signup`: makes an account and signs in with it, while registration is open.

Which names and passwords are acceptable is decided in `accounts`.
"""

from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.accounts.registration import Registration
from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, VerifiedPassword
from issuer.authorize.flow import Flow
from issuer.throttling.limits import networks_of
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

PURPOSE = "signup"
RULE = (
    f"At least {PASSWORD_LEAST_CHARACTERS} characters, and not a common one. Several words are a good choice."
)
SIGNED_IN = "You are signed in as {username}. When you create another account, that session ends."
FIELDS = ("username", "password")


@dataclass(frozen=True)
class SignUpPage:
    """The page for one visit of a browser."""

    page: PageRequest
    visit: Visit
    token: str

    def rendered(
        self, username: str = "", error: PageError | None = None, response: ErrorResponse | None = None
    ) -> Response:
        """Return the page, with an error if there is one."""
        user = self.page.browser.user
        return render(
            self.page.request,
            "signup.html",
            status=response.status if response else 400 if error else 200,
            policy=LEAVING_POLICY,
            headers=response.headers if response else {},
            errors=(error,) if error else (),
            why=SIGNED_IN.format(username=user.username) if user else "",
            username=username,
            visit=self.visit,
            form_token=self.token,
            rule=RULE,
        )

    def refused(self, username: str, response: ErrorResponse) -> Response:
        """Return the page with the error of an attempt."""
        text = text_of(response)
        # The descriptions of `accounts.user` name the field.
        about = tuple(field for field in FIELDS if field in text.lower().split())[:1]
        return self.rendered(username, PageError(text, about), response)


def page_of(page: PageRequest, flow: Flow, registration: Registration, ticket: str) -> SignUpPage:
    """Return the page for a visit; raise AccessDenied if users cannot create accounts, or StoreError."""
    registration.require_open()
    return SignUpPage(page, visit_of(page, flow, ticket, ""), page.form_token(PURPOSE))


@router.get(paths.SIGNUP, include_in_schema=False)
@renders_errors(render_error)
def show(page: PageRequestDep, authorize: AuthorizeDep, accounts: AccountsDep, ticket: str = "") -> Response:
    """Show the form."""
    return page_of(page, authorize.flow, accounts.registration, ticket).rendered()


@router.post(paths.SIGNUP, include_in_schema=False)
@renders_errors(render_error)
async def sign_up(
    page: PageRequestDep, authorize: AuthorizeDep, accounts: AccountsDep, sessions: SessionsDep, sent: FormDep
) -> Response:
    """Create an account, and sign in with it."""
    form, origin, registration = sent.parameters, page.browser.origin, accounts.registration
    username, password = form.get("username", ""), form.get("password", "")
    shown = await anyio.to_thread.run_sync(
        page_of, page, authorize.flow, registration, form.get("ticket", "")
    )
    if not page.sent_own_form(sent, PURPOSE):
        return shown.rendered(username, page.form_refused)
    if not username or not password:
        missing = "password" if username else "username"
        return shown.rendered(username, PageError(f"Enter a {missing}.", (missing,)))
    show_errors_by(page.request, lambda error: shown.refused(username, error))
    await anyio.to_thread.run_sync(registration.admit, username, password, origin, page.now)

    def make() -> str:
        now = page.now
        user = registration.make(username, password, origin, now)
        verified = VerifiedPassword(user.password_hash)
        return sessions.sign_in.start(user, verified, page.browser.session, origin, now)[1]

    queue = (*networks_of(origin.address), "registration")
    secret = await accounts.hashing_pool.run(queue, make)
    response = shown.visit.leave(page.request)
    set_session_cookie(response, page.issuer_url, secret)
    return response
