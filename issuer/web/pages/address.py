"""`/confirm-address`: a user confirms an e-mail address with a link that was sent there, and with the password.

Which links are valid is decided in `administration.address_links`.
"""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from issuer.accounts.login import hashing_queue
from issuer.administration.address_links import AddressLinks, Confirmation
from issuer.oauth import ErrorCode
from issuer.web.deps import AccountsDep, AdministrationDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, message, render_error, text_of
from issuer.web.pages.link import show_link_errors
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "confirm address"


ADVICE = "Enter the address again where you entered it before."


def _opened(page: PageRequest, links: AddressLinks, token: str) -> tuple[PageForm, Confirmation]:
    """Return the form of a link, and what it confirms; raise InvalidGrant or StoreError."""
    show_link_errors(page.request, ADVICE)
    found = links.find(token, page.now)
    values = {"username": found.user.username, "address": found.address, "token": token}
    form_token = page.form_token(PURPOSE, token)
    return PageForm(page.request, "confirm_address.html", form_token, _in_words, values), found


def _in_words(error: ErrorResponse) -> PageError:
    is_wrong = error.code == ErrorCode.INVALID_GRANT
    return PageError("The password is wrong.", ("password",)) if is_wrong else PageError(text_of(error))


@router.get(paths.CONFIRM_ADDRESS)
@renders_errors(render_error)
async def show(
    page: PageRequestDep, administration: AdministrationDep, token: Annotated[str, Query()] = ""
) -> Response:
    """Show the form."""
    form, _ = await anyio.to_thread.run_sync(_opened, page, administration.address_links, token)
    return form.render()


@router.post(paths.CONFIRM_ADDRESS)
@renders_errors(render_error)
async def confirm(
    page: PageRequestDep, administration: AdministrationDep, accounts: AccountsDep, sent: FormDep
) -> Response:
    """Store the address."""
    fields, links, origin = sent.parameters, administration.address_links, page.browser.origin
    token, password = fields.get("token", ""), fields.get("password", "")
    form, (user, address) = await anyio.to_thread.run_sync(_opened, page, links, token)
    if not page.sent_own_form(sent, PURPOSE, token):
        return form.render(page.form_refused, status=400)
    show_link_errors(page.request, ADVICE, form=form)
    await anyio.to_thread.run_sync(links.check, user, origin, page.now)
    queue = hashing_queue(user.username, origin)
    await accounts.hashing_pool.run(queue, lambda: links.confirm(token, password, origin, page.now))
    return message(
        page.request, "Your address is confirmed", f"The account {user.username} now has {address}."
    )
