"""`/account/delete`: a user deletes the account.

What is deleted is decided in `administration.own_account`.
"""

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.accounts.login import hashing_queue
from issuer.accounts.user import User, account_name
from issuer.oauth import ErrorCode
from issuer.web.deps import IssuerDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED
from issuer.web.pages.account_view import signed_in
from issuer.web.pages.browser import BrowserDep, delete_session_cookie
from issuer.web.pages.errors import PageError, message, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD, FormTokensDep
from issuer.web.pages.own_form import OwnForm
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH, DELETED = f"{paths.ACCOUNT}/delete", f"{paths.ACCOUNT}/deleted"
PURPOSE = "delete account"
NOT_CONFIRMED = PageError(
    "Type your username to confirm that the account shall be deleted.", ("confirmation",)
)


def _form(request: Request, user: User, token: str) -> OwnForm:
    return OwnForm(request, "own_deletion.html", user, token, _in_words)


def _in_words(error: ErrorResponse) -> PageError:
    is_wrong = error.code == ErrorCode.INVALID_GRANT
    return PageError("The password is wrong.", ("password",)) if is_wrong else PageError(text_of(error))


@router.get(PATH)
@renders_errors(render_error)
async def show(request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep) -> Response:
    """Show the form."""
    who = signed_in(browser)
    if who is None:
        return redirect(request, paths.SIGNIN)
    token = await anyio.to_thread.run_sync(forms.token, browser, PURPOSE, issuer.clock())
    return _form(request, who.user, token).render()


@router.post(PATH)
@renders_errors(render_error)
async def delete(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """Delete the account of the user."""
    who, fields, now = signed_in(browser), form.parameters, issuer.clock()
    if who is None:
        return redirect(request, paths.SIGNIN)
    page = _form(request, who.user, await anyio.to_thread.run_sync(forms.token, browser, PURPOSE, now))
    if not forms.is_valid(request, fields.get(FIELD, ""), browser, PURPOSE, now):
        return page.render(OUTDATED, status=400)
    if account_name(fields.get("confirmation", "")) != account_name(who.user.username):
        return page.render(NOT_CONFIRMED, status=400)
    show_errors_by(request, page.render_error)
    own, user, origin, password = issuer.own_account, who.user, browser.origin, fields.get("password", "")
    await anyio.to_thread.run_sync(own.check, user, origin, now)
    await issuer.accounts.hashing_pool.run(
        hashing_queue(user.username, origin), lambda: own.delete(user, password, origin, issuer.clock())
    )
    response = redirect(request, DELETED)
    delete_session_cookie(response, issuer.settings.url)
    return response


@router.get(DELETED)
@renders_errors(render_error)
async def deleted(request: Request) -> Response:
    """Say that the account was deleted; the browser is signed out."""
    text = (
        "Everything that was stored about you here has been deleted. Applications may have data of their own."
    )
    return message(request, "Your account was deleted", text)
