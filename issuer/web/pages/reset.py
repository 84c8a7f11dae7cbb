"""`/reset`: a user chooses a password with a link: a new one, or the first after an invitation.

Which links are valid is decided in `administration.reset_links`.
"""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS
from issuer.oauth import ErrorCode
from issuer.services import Administration
from issuer.throttling.limits import networks_of
from issuer.web.deps import AccountsDep, AdministrationDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, render_error, text_of
from issuer.web.pages.link import show_link_errors
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect
from issuer.web.pages.signin import PASSWORD_CHANGED, WELCOME

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "reset"
NOT_VALID = "Ask the operator of this service for a new one."
NOT_VALID_WITH_MAIL = (
    "You can get another one by mail; after an invitation, ask the operator of this service."
)


def _opened(page: PageRequest, administration: Administration, token: str) -> tuple[PageForm, bool]:
    """Return the form of a link, and whether it is an invitation; raise InvalidGrant or StoreError."""
    sends_mail = administration.mails.is_on
    _show_errors(page, sends_mail)
    user = administration.reset_links.user(token, page.now)
    is_invited = user.invited_at is not None  # had no password so far
    values = {
        "username": user.username,
        "is_invited": is_invited,
        "token": token,
        "least_characters": PASSWORD_LEAST_CHARACTERS,
    }
    form = PageForm(page.request, "reset.html", page.form_token(PURPOSE, token), _in_words, values)
    return form, is_invited


def _show_errors(page: PageRequest, sends_mail: bool, form: PageForm | None = None) -> None:
    if sends_mail:
        show_link_errors(page.request, NOT_VALID_WITH_MAIL, (paths.FORGOT, "Get another link"), form)
    else:
        show_link_errors(page.request, NOT_VALID, form=form)


def _in_words(error: ErrorResponse) -> PageError:
    return PageError(text_of(error), ("new_password",) if error.code == ErrorCode.INVALID_REQUEST else ())


@router.get(paths.RESET)
@renders_errors(render_error)
async def show(
    page: PageRequestDep, administration: AdministrationDep, token: Annotated[str, Query()] = ""
) -> Response:
    """Show the form."""
    form, _ = await anyio.to_thread.run_sync(_opened, page, administration, token)
    return form.render()


@router.post(paths.RESET)
@renders_errors(render_error)
async def reset(
    page: PageRequestDep, administration: AdministrationDep, accounts: AccountsDep, sent: FormDep
) -> Response:
    """Change the password; the user then signs in with it."""
    fields, links = sent.parameters, administration.reset_links
    token, new = fields.get("token", ""), fields.get("new_password", "")
    form, is_invited = await anyio.to_thread.run_sync(_opened, page, administration, token)
    if not page.sent_own_form(sent, PURPOSE, token):
        return form.render(page.form_refused, status=400)
    _show_errors(page, administration.mails.is_on, form)
    await anyio.to_thread.run_sync(links.check, token, new, page.now)
    queue = (*networks_of(page.browser.origin.address), PURPOSE)
    await accounts.hashing_pool.run(queue, lambda: links.set_password(token, new, page.now))
    return redirect(page.request, paths.SIGNIN, reason=WELCOME if is_invited else PASSWORD_CHANGED)
