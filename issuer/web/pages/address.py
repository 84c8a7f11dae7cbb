"""`/confirm-address`: a user confirms an e-mail address with a link that was sent there, and with the password.

Which links are valid is decided in `administration.address_links`. Opening one changes nothing: programs that check
mails open links, too.
"""

from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from issuer.accounts.login import hashing_queue
from issuer.administration.address_links import AddressLinks, Confirmation
from issuer.oauth import ErrorCode, LoginFailed
from issuer.web.deps import AccountsDep, AdministrationDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import render

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "confirm address"


@dataclass(frozen=True)
class _Page:
    """The form, for one link."""

    request: Request
    confirmation: Confirmation
    token: str
    form_token: str

    def render(self, *errors: PageError, status: int = 200) -> Response:
        return render(
            self.request,
            "confirm_address.html",
            status=status,
            username=self.confirmation.user.username,
            address=self.confirmation.address,
            token=self.token,
            form_token=self.form_token,
            errors=errors,
        )

    def render_error(self, error: ErrorResponse) -> Response:
        """Return the form with an error of the password, or the error alone if the link is no longer valid."""
        if _is_of_link(error):
            return refused(self.request, error)
        is_wrong = error.code == ErrorCode.INVALID_GRANT
        shown = PageError("The password is wrong.", ("password",)) if is_wrong else PageError(text_of(error))
        page = self.render(shown, status=error.status)
        page.headers.update(error.headers)
        return page


def _is_of_link(error: ErrorResponse) -> bool:
    """Return whether the link is not valid; a wrong password has the same code, and another status."""
    return error.code == ErrorCode.INVALID_GRANT and error.status != LoginFailed.status


def refused(request: Request, error: ErrorResponse) -> Response:
    """Return an error as a page, also that of a link."""
    if _is_of_link(error):
        text = "It was used, or it has expired. Enter the address again where you entered it before."
        return message(request, "This link is not valid", text, status=error.status)
    return render_error(request, error)


def _page(page: PageRequest, links: AddressLinks, token: str) -> _Page:
    """Return the page of a link; raise InvalidGrant or StoreError."""
    return _Page(page.request, links.find(token, page.now), token, page.form_token(PURPOSE, token))


@router.get(paths.CONFIRM_ADDRESS)
@renders_errors(refused)
async def show(
    page: PageRequestDep, administration: AdministrationDep, token: Annotated[str, Query()] = ""
) -> Response:
    """Show the form."""
    return (await anyio.to_thread.run_sync(_page, page, administration.address_links, token)).render()


@router.post(paths.CONFIRM_ADDRESS)
@renders_errors(refused)
async def confirm(
    page: PageRequestDep, administration: AdministrationDep, accounts: AccountsDep, sent: FormDep
) -> Response:
    """Store the address."""
    fields, links, origin = sent.parameters, administration.address_links, page.browser.origin
    token, password = fields.get("token", ""), fields.get("password", "")
    shown = await anyio.to_thread.run_sync(_page, page, links, token)
    if not page.sent_own_form(sent, PURPOSE, token):
        return shown.render(page.form_refused, status=400)
    show_errors_by(page.request, shown.render_error)
    user, address = shown.confirmation
    await anyio.to_thread.run_sync(links.check, user, origin, page.now)
    queue = hashing_queue(user.username, origin)
    await accounts.hashing_pool.run(queue, lambda: links.confirm(token, password, origin, page.now))
    return message(
        page.request, "Your address is confirmed", f"The account {user.username} now has {address}."
    )
