"""`/reset`: a user chooses a new password with a link of an operator.

Which links are valid is decided in `administration.reset_links`.
"""

from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS
from issuer.oauth import ErrorCode
from issuer.throttling.limits import networks_of
from issuer.web.deps import IssuerDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.browser import BrowserDep
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD, FormTokensDep
from issuer.web.pages.rendering import redirect, render
from issuer.web.pages.signin import COOKIES_NEEDED, FORM_REFUSED, PASSWORD_CHANGED

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "reset"


@dataclass(frozen=True)
class _Page:
    """The form, for one link."""

    request: Request
    username: str
    token: str
    form_token: str

    def render(self, *errors: PageError, status: int = 200) -> Response:
        return render(
            self.request,
            "reset.html",
            status=status,
            username=self.username,
            token=self.token,
            form_token=self.form_token,
            least_characters=PASSWORD_LEAST_CHARACTERS,
            errors=errors,
        )

    def render_error(self, error: ErrorResponse) -> Response:
        """Return the form with an error of the new password, or the error alone if the link is no longer valid."""
        if error.code == ErrorCode.INVALID_GRANT:
            return refused(self.request, error)
        fields = ("new_password",) if error.code == ErrorCode.INVALID_REQUEST else ()
        page = self.render(PageError(text_of(error), fields), status=error.status)
        page.headers.update(error.headers)
        return page


def refused(request: Request, error: ErrorResponse) -> Response:
    """Return an error as a page, also that of a link."""
    if error.code == ErrorCode.INVALID_GRANT:
        text = "It was used, or it has expired. Ask the operator of this service for a new one."
        return message(request, "This link is not valid", text, status=error.status)
    return render_error(request, error)


@router.get(paths.RESET)
@renders_errors(refused)
async def show(
    request: Request,
    issuer: IssuerDep,
    browser: BrowserDep,
    forms: FormTokensDep,
    token: Annotated[str, Query()] = "",
) -> Response:
    """Show the form."""

    def page() -> _Page:
        now = issuer.clock()
        user = issuer.reset_links.user(token, now)
        return _Page(request, user.username, token, forms.token(browser, PURPOSE, now, token))

    return (await anyio.to_thread.run_sync(page)).render()


@router.post(paths.RESET)
@renders_errors(refused)
async def reset(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """Change the password; the user then signs in with it."""
    fields, links = form.parameters, issuer.reset_links
    token, new = fields.get("token", ""), fields.get("new_password", "")

    def opened() -> tuple[_Page, bool]:
        now = issuer.clock()
        page = _Page(
            request, links.user(token, now).username, token, forms.token(browser, PURPOSE, now, token)
        )
        return page, forms.is_valid(request, fields.get(FIELD, ""), browser, PURPOSE, now, token)

    page, is_own_form = await anyio.to_thread.run_sync(opened)
    if not is_own_form:
        return page.render(PageError(FORM_REFUSED if browser.origin.device else COOKIES_NEEDED), status=400)
    show_errors_by(request, page.render_error)
    await anyio.to_thread.run_sync(links.check, token, new, issuer.clock())
    await issuer.accounts.hashing_pool.run(
        (*networks_of(browser.origin.address), PURPOSE),
        lambda: links.set_password(token, new, issuer.clock()),
    )
    return redirect(request, paths.SIGNIN, reason=PASSWORD_CHANGED)
