"""`/account/profile`: a user changes the name and the e-mail address.

What that needs is decided in `administration.own_profile`.
"""

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.oauth import ErrorCode
from issuer.web.account.password_changes import PasswordChangesDep
from issuer.web.deps import AdministrationDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED, Done
from issuer.web.pages.account_view import SignedIn, signed_in
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH = f"{paths.ACCOUNT}/profile"
PURPOSE = "profile"
SEND_AGAIN = "again"
"""The button with which a user asks for another message to an address that is not confirmed."""
_FIELDS = {"password": "password", "e-mail": "email", "name": "name"}
"""The field that an error is about, by a word in its text."""


def _form(page: PageRequest, who: SignedIn, sends_mail: bool, name: str, email: str) -> PageForm:
    values = {"user": who.user, "name": name, "email": email, "sends_mail": sends_mail}
    return PageForm(page.request, "own_profile.html", page.form_token(PURPOSE), _in_words, values)


def _in_words(error: ErrorResponse) -> PageError:
    if error.code == ErrorCode.INVALID_GRANT:
        return PageError("The current password is wrong.", ("password",))
    text = text_of(error)
    field = next((name for word, name in _FIELDS.items() if word in text), None)
    return PageError(text, (field,) if field else ())


@router.get(PATH)
@renders_errors(render_error)
async def show(page: PageRequestDep, administration: AdministrationDep) -> Response:
    """Show the form."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    stored = who.user.name or "", who.user.email or ""
    return (await anyio.to_thread.run_sync(_form, page, who, administration.mails.is_on, *stored)).render()


@router.post(PATH)
@renders_errors(render_error)
async def change(
    page: PageRequestDep, administration: AdministrationDep, changes: PasswordChangesDep, sent: FormDep
) -> Response:
    """Change the profile; where mails are sent, another address is stored when it is confirmed."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    user, sends_mail, is_again = who.user, administration.mails.is_on, SEND_AGAIN in sent.parameters
    stored = user.name or "", user.email or ""
    typed = (sent.parameters.get(name, "").strip() for name in ("name", "email"))
    name, email = stored if is_again else typed
    form = await anyio.to_thread.run_sync(_form, page, who, sends_mail, name, email)
    if not page.sent_own_form(sent, PURPOSE):
        return form.render(OUTDATED, status=400)
    show_errors_by(page.request, form.render_error)
    asked = email if is_again or email != stored[1] else None
    password, origin = sent.parameters.get("password", ""), page.browser.origin
    await changes.change_profile(user, password, origin, name=None if is_again else name, email=asked)
    is_pending = bool(asked) and sends_mail
    return redirect(page.request, paths.ACCOUNT, done=Done.ADDRESS_ASKED if is_pending else Done.PROFILE)
