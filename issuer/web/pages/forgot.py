"""`/forgot`: somebody asks for a link to choose a new password, which is sent by mail; only where mails are sent.

For whom there is an account is looked up in the background, by `administration.mail_delivery`: neither the answer nor
its time depends on it.
"""

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.administration.user_mails import UserMails
from issuer.oauth import NotFound
from issuer.web.deps import AdministrationDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep

router = APIRouter(route_class=UnambiguousRoute, include_in_schema=False)

PURPOSE = "forgot"
SENT = (
    "If there is an account with this name or address, and its e-mail address is known, a message with a link is on"
    " its way to it. The link is valid for an hour."
)
NOT_ARRIVED = (
    "If nothing arrives within minutes, look in the folder for spam, or ask the operator of this service."
)


def _form(page: PageRequest, mails: UserMails, name: str = "") -> PageForm:
    """Return the form; raise NotFound where no mails are sent, or StoreError."""
    if not mails.is_on:
        raise NotFound
    return PageForm(page.request, "forgot.html", page.form_token(PURPOSE), _in_words, {"name": name})


def _in_words(error: ErrorResponse) -> PageError:
    return PageError(text_of(error))


@router.get(paths.FORGOT)
@renders_errors(render_error)
async def show(page: PageRequestDep, administration: AdministrationDep) -> Response:
    """Show the form."""
    return (await anyio.to_thread.run_sync(_form, page, administration.mails)).render()


@router.post(paths.FORGOT)
@renders_errors(render_error)
async def request_link(page: PageRequestDep, administration: AdministrationDep, sent: FormDep) -> Response:
    """Queue the request, and say the same for every name and address."""
    name, mails = sent.parameters.get("username", ""), administration.mails
    form = await anyio.to_thread.run_sync(_form, page, mails, name)
    if not page.sent_own_form(sent, PURPOSE):
        return form.render(page.form_refused, status=400)
    if not name:
        return form.render(PageError("Enter your username or e-mail address.", ("username",)), status=400)
    show_errors_by(page.request, form.render_error)
    await anyio.to_thread.run_sync(mails.request_reset, name, page.browser.origin, page.now)
    return message(page.request, "Look at your mail", SENT, NOT_ARRIVED)
