"""`/account/password`: a user changes the password.

What that ends is decided in `administration.own_account`.
"""

from datetime import timedelta

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS
from issuer.oauth import ErrorCode
from issuer.web.account.password_changes import PasswordChangesDep
from issuer.web.deps import SessionsDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED, Done
from issuer.web.pages.account_view import SignedIn, signed_in
from issuer.web.pages.browser import set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH = f"{paths.ACCOUNT}/password"
PURPOSE = "password"


def _form(page: PageRequest, who: SignedIn) -> PageForm:
    values = {"user": who.user, "least_characters": PASSWORD_LEAST_CHARACTERS}
    return PageForm(page.request, "own_password.html", page.form_token(PURPOSE), _in_words, values)


def _in_words(error: ErrorResponse) -> PageError:
    shown = {
        ErrorCode.INVALID_GRANT: PageError("The current password is wrong.", ("password",)),
        ErrorCode.INVALID_REQUEST: PageError(text_of(error), ("new_password",)),
    }
    return shown.get(ErrorCode(error.code), PageError(text_of(error)))


@router.get(PATH)
@renders_errors(render_error)
async def show(page: PageRequestDep) -> Response:
    """Show the form."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    return (await anyio.to_thread.run_sync(_form, page, who)).render()


@router.post(PATH)
@renders_errors(render_error)
async def change(
    page: PageRequestDep, changes: PasswordChangesDep, sessions: SessionsDep, sent: FormDep
) -> Response:
    """Change the password; this browser stays signed in, with another secret."""
    who = signed_in(page.browser)
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    form = await anyio.to_thread.run_sync(_form, page, who)
    if not page.sent_own_form(sent, PURPOSE):
        return form.render(OUTDATED, status=400)
    show_errors_by(page.request, form.render_error)
    old, new = sent.parameters.get("password", ""), sent.parameters.get("new_password", "")
    secret = await changes.change(who.user, who.session, old, new, page.browser.origin)
    response = redirect(page.request, paths.ACCOUNT, done=Done.PASSWORD)
    remembered = sessions.store.remembered if who.session.is_remembered else timedelta(0)
    set_session_cookie(response, page.issuer_url, secret, remembered)
    return response
