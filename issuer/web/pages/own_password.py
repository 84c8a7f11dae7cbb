"""`/account/password`: a user changes the password.

What that ends is decided in `administration.own_account`.
"""

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.accounts.login import hashing_queue
from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, User
from issuer.oauth import ErrorCode, InvalidRequest
from issuer.web.deps import IssuerDep
from issuer.web.http.endpoints import ErrorResponse, renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages import paths
from issuer.web.pages.account import OUTDATED, Done
from issuer.web.pages.account_view import signed_in
from issuer.web.pages.browser import BrowserDep, set_session_cookie
from issuer.web.pages.errors import PageError, render_error, show_errors_by, text_of
from issuer.web.pages.form_tokens import FIELD, FormTokensDep
from issuer.web.pages.own_form import OwnForm
from issuer.web.pages.rendering import redirect

router = APIRouter(include_in_schema=False)

PATH = f"{paths.ACCOUNT}/password"
PURPOSE = "password"


def _form(request: Request, user: User, token: str) -> OwnForm:
    values = {"least_characters": PASSWORD_LEAST_CHARACTERS}
    return OwnForm(request, "own_password.html", user, token, _in_words, values)


def _in_words(error: ErrorResponse) -> PageError:
    shown = {
        ErrorCode.INVALID_GRANT: PageError("The current password is wrong.", ("password",)),
        ErrorCode.INVALID_REQUEST: PageError(text_of(error), ("new_password",)),
    }
    return shown.get(ErrorCode(error.code), PageError(text_of(error)))


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
async def change(
    request: Request, issuer: IssuerDep, browser: BrowserDep, forms: FormTokensDep, form: FormDep
) -> Response:
    """Change the password; this browser stays signed in, with another secret."""
    who, fields, now = signed_in(browser), form.parameters, issuer.clock()
    if who is None:
        return redirect(request, paths.SIGNIN)
    page = _form(request, who.user, await anyio.to_thread.run_sync(forms.token, browser, PURPOSE, now))
    if not forms.is_valid(request, fields.get(FIELD, ""), browser, PURPOSE, now):
        return page.render(OUTDATED, status=400)
    show_errors_by(request, page.render_error)
    old, new = fields.get("password", ""), fields.get("new_password", "")
    if not new:
        raise InvalidRequest("the new password is missing")
    own, user, session, origin = issuer.own_account, who.user, who.session, browser.origin
    await anyio.to_thread.run_sync(own.check_change, user, new, origin, now)
    secret = await issuer.accounts.hashing_pool.run(
        hashing_queue(user.username, origin),
        lambda: own.change_password(user, session, old, new, origin, issuer.clock()),
    )
    response = redirect(request, paths.ACCOUNT, done=Done.PASSWORD)
    set_session_cookie(response, issuer.settings.url, secret)
    return response
