"""`/reset`: a user chooses a password with a link: a new one, or the first after an invitation.

Which links are valid is decided in `administration.reset_links`.
"""

from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, User
from issuer.administration.reset_links import ResetLinks
from issuer.oauth import ErrorCode
from issuer.throttling.limits import networks_of
from issuer.web.deps import AccountsDep, AdministrationDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect, render
from issuer.web.pages.signin import PASSWORD_CHANGED, WELCOME

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "reset"


@dataclass(frozen=True)
class _Page:
    """The form, for one link."""

    request: Request
    user: User
    token: str
    form_token: str

    @property
    def is_invited(self) -> bool:
        """Whether the user has had no password so far."""
        return self.user.invited_at is not None

    def render(self, *errors: PageError, status: int = 200) -> Response:
        return render(
            self.request,
            "reset.html",
            status=status,
            username=self.user.username,
            is_invited=self.is_invited,
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


def _page(page: PageRequest, links: ResetLinks, token: str) -> _Page:
    """Return the page of a link; raise InvalidGrant or StoreError."""
    return _Page(page.request, links.user(token, page.now), token, page.form_token(PURPOSE, token))


@router.get(paths.RESET)
@renders_errors(refused)
async def show(
    page: PageRequestDep, administration: AdministrationDep, token: Annotated[str, Query()] = ""
) -> Response:
    """Show the form."""
    return (await anyio.to_thread.run_sync(_page, page, administration.reset_links, token)).render()


@router.post(paths.RESET)
@renders_errors(refused)
async def reset(
    page: PageRequestDep, administration: AdministrationDep, accounts: AccountsDep, sent: FormDep
) -> Response:
    """Change the password; the user then signs in with it."""
    fields, links = sent.parameters, administration.reset_links
    token, new = fields.get("token", ""), fields.get("new_password", "")
    shown = await anyio.to_thread.run_sync(_page, page, links, token)
    if not page.sent_own_form(sent, PURPOSE, token):
        return shown.render(page.form_refused, status=400)
    show_errors_by(page.request, shown.render_error)
    await anyio.to_thread.run_sync(links.check, token, new, page.now)
    queue = (*networks_of(page.browser.origin.address), PURPOSE)
    await accounts.hashing_pool.run(queue, lambda: links.set_password(token, new, page.now))
    return redirect(page.request, paths.SIGNIN, reason=WELCOME if shown.is_invited else PASSWORD_CHANGED)
