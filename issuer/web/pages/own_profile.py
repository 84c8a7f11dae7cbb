"""`/account/profile`: a user changes the name and the e-mail address.

What that needs is decided in `administration.own_profile`.
"""

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.web.deps import AdministrationDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED, Done
from issuer.web.pages.account_view import SignedIn, signed_in
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.own_form import OwnForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH = f"{paths.ACCOUNT}/profile"
PURPOSE = "profile"


def _form(page: PageRequest, who: SignedIn, sends_mail: bool, name: str, email: str) -> OwnForm:
    values = {"name": name, "email": email, "sends_mail": sends_mail}
    token = page.form_token(PURPOSE)
    return OwnForm(page.request, "own_profile.html", who.user, token, _in_words, values)


def _in_words(error: ErrorResponse) -> PageError:
    text = text_of(error)
    return PageError(text, ("email",) if "e-mail" in text else ("name",) if "name" in text else ())


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
async def change(page: PageRequestDep, administration: AdministrationDep, sent: FormDep) -> Response:
    """Change the profile; where mails are sent, another address is stored when it is confirmed."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    user, own = who.user, administration.own_profile
    name, email = sent.parameters.get("name", ""), sent.parameters.get("email", "")
    form = await anyio.to_thread.run_sync(_form, page, who, administration.mails.is_on, name, email)
    if not page.sent_own_form(sent, PURPOSE):
        return form.render(OUTDATED, status=400)
    show_errors_by(page.request, form.render_error)
    asked = email if email != (user.email or "") or not user.email_verified else None
    changed = await anyio.to_thread.run_sync(lambda: own.change(user, page.now, name=name, email=asked))
    is_pending = bool(email) and changed.email != email
    return redirect(page.request, paths.ACCOUNT, done=Done.ADDRESS_ASKED if is_pending else Done.PROFILE)
