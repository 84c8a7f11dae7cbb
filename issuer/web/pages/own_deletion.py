"""`/account/delete`: a user deletes the account.

What is deleted is decided in `administration.own_account`.
"""

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.accounts.user import account_name
from issuer.oauth import ErrorCode
from issuer.web.account.password_changes import PasswordChangesDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED
from issuer.web.pages.account_view import SignedIn, signed_in
from issuer.web.pages.browser import delete_session_cookie
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.page_form import PageForm
from issuer.web.pages.page_request import PageRequest, PageRequestDep
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH, DELETED = f"{paths.ACCOUNT}/delete", f"{paths.ACCOUNT}/deleted"
PURPOSE = "delete account"
NOT_CONFIRMED = PageError(
    "Type your username to confirm that the account shall be deleted.", ("confirmation",)
)


def _form(page: PageRequest, who: SignedIn) -> PageForm:
    token = page.form_token(PURPOSE)
    return PageForm(page.request, "own_deletion.html", token, _in_words, {"user": who.user})


def _in_words(error: ErrorResponse) -> PageError:
    is_wrong = error.code == ErrorCode.INVALID_GRANT
    return PageError("The password is wrong.", ("password",)) if is_wrong else PageError(text_of(error))


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
async def delete(page: PageRequestDep, changes: PasswordChangesDep, sent: FormDep) -> Response:
    """Delete the account of the user."""
    who, password = signed_in(page.browser), sent.parameters.get("password", "")
    if who is None:
        return redirect(page.request, paths.SIGNIN)
    form = await anyio.to_thread.run_sync(_form, page, who)
    if not page.sent_own_form(sent, PURPOSE):
        return form.render(OUTDATED, status=400)
    if account_name(sent.parameters.get("confirmation", "")) != account_name(who.user.username):
        return form.render(NOT_CONFIRMED, status=400)
    show_errors_by(page.request, form.render_error)
    await changes.delete(who.user, password, page.browser.origin)
    response = redirect(page.request, DELETED)
    delete_session_cookie(response, page.issuer_url)
    return response


@router.get(DELETED)
@renders_errors(render_error)
async def deleted(request: Request) -> Response:
    """Say that the account was deleted; the browser is signed out."""
    text = (
        "Everything that was stored about you here has been deleted. Applications may have data of their own."
    )
    return message(request, "Your account was deleted", text)
