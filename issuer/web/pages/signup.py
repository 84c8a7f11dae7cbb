"""`GET` and `POST /signup`: makes an account and signs in with it, while registration is open.

Which names and passwords are acceptable is decided in `accounts`.
"""

from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, VerifiedPassword
from issuer.services import Issuer
from issuer.throttling.limits import networks_of
from issuer.web.deps import IssuerDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.browser import Browser, BrowserDep, set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD, FormTokens, FormTokensDep
from issuer.web.pages.rendering import LEAVING_POLICY, render
from issuer.web.pages.signin import COOKIES_NEEDED, FORM_REFUSED
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

    request: Request
    browser: Browser
    visit: Visit
    token: str

    def rendered(
        self, username: str = "", error: PageError | None = None, response: ErrorResponse | None = None
    ) -> Response:
        """Return the page, with an error if there is one."""
        user = self.browser.user
        return render(
            self.request,
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


def page_of(
    request: Request, issuer: IssuerDep, browser: Browser, forms: FormTokens, ticket: str
) -> SignUpPage:
    """Return the page for a visit; raise AccessDenied if users cannot create accounts, or StoreError."""
    issuer.accounts.registration.require_open()
    visit = visit_of(issuer, browser, ticket, "")
    return SignUpPage(request, browser, visit, forms.token(browser, PURPOSE, issuer.clock()))


@router.get(paths.SIGNUP, include_in_schema=False)
@renders_errors(render_error)
def show(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, ticket: str = ""
) -> Response:
    """Show the form."""
    return page_of(request, issuer, browser, forms, ticket).rendered()


@router.post(paths.SIGNUP, include_in_schema=False)
@renders_errors(render_error)
async def sign_up(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, sent: FormDep
) -> Response:
    """Create an account, and sign in with it."""
    form = sent.parameters
    username, password = form.get("username", ""), form.get("password", "")
    page = await anyio.to_thread.run_sync(page_of, request, issuer, browser, forms, form.get("ticket", ""))
    if not forms.is_valid(request, form.get(FIELD, ""), browser, PURPOSE, issuer.clock()):
        text = FORM_REFUSED if browser.origin.device else COOKIES_NEEDED
        return page.rendered(username, PageError(text))
    if not username or not password:
        missing = "password" if username else "username"
        return page.rendered(username, PageError(f"Enter a {missing}.", (missing,)))
    show_errors_by(request, lambda error: page.refused(username, error))
    given = username, password, browser.origin
    await anyio.to_thread.run_sync(issuer.accounts.registration.admit, *given, issuer.clock())
    secret = await issuer.accounts.hashing_pool.run(
        (*networks_of(browser.origin.address), "registration"), _make, issuer, browser, username, password
    )
    response = page.visit.leave(request)
    set_session_cookie(response, issuer.settings.url, secret)
    return response


def _make(issuer: Issuer, browser: Browser, username: str, password: str) -> str:
    """Make an account, and return the secret of its session."""
    now, origin = issuer.clock(), browser.origin
    user = issuer.accounts.registration.make(username, password, origin, now)
    verified = VerifiedPassword(user.password_hash)
    return issuer.sessions.sign_in.start(user, verified, browser.session, origin, now)[1]
