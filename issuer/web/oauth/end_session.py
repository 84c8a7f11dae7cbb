"""`GET` and `POST /oauth2/logout`: the end session endpoint, OpenID Connect RP-Initiated Logout 1.0.

What a request may lead to is decided in `authorize.sign_out`; its pages are those of `pages.signout`.
"""

from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from issuer.oauth import InvalidRequest
from issuer.web.deps import SessionsDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.forms import FormDep
from issuer.web.pages.browser import delete_session_cookie
from issuer.web.pages.page_request import PageRequestDep
from issuer.web.pages.paths import LOGOUT
from issuer.web.pages.rendering import redirect
from issuer.web.pages.signout import ask, end, leave, refused, signed_out

router = APIRouter(include_in_schema=False, route_class=UnambiguousRoute)

PARAMETERS = (
    "id_token_hint",
    "client_id",
    "post_logout_redirect_uri",
    "state",
    "logout_hint",
    "ui_locales",
)
"""Section 2; others are ignored."""
REQUEST_MOST_CHARACTERS = 7000
"""Of a request that is sent as a form: it must fit in a URL, for which servers accept 8 KiB."""


@router.get(LOGOUT, name="end_session_endpoint")
@renders_errors(refused)
async def end_session(page: PageRequestDep, sessions: SessionsDep) -> Response:
    """Sign the user out at once if a hint was issued for the session of this browser; otherwise a page asks."""
    # A parameter without a value counts as omitted, RFC 6749 section 3.1.
    given = {name: value for name, value in page.request.query_params.items() if value}
    session, use_case, now = page.browser.session, sessions.sign_out, page.now
    logout = await anyio.to_thread.run_sync(use_case.request, given, now)
    if session is not None and await anyio.to_thread.run_sync(use_case.needs_question, logout, session, now):
        return await ask(page, use_case, logout)
    # Without a hint anyone may have made the request: a link on the page, instead of a redirect.
    returns = logout.location if logout.sid is not None else None
    answer = leave(page.request, returns) if returns else signed_out(page.request, logout)
    if session:
        await end(page, use_case, session)
        delete_session_cookie(answer, page.issuer_url)
    return answer


@router.post(LOGOUT)
@renders_errors(refused)
async def end_session_by_form(request: Request, form: FormDep) -> Response:
    """Redirect to the same request as a GET: browsers send no session cookie with a POST from another site."""
    given = {name: form.parameters[name] for name in PARAMETERS if name in form.parameters}
    if len(urlencode(given)) > REQUEST_MOST_CHARACTERS:
        raise InvalidRequest(f"the request has more than {REQUEST_MOST_CHARACTERS} characters")
    return redirect(request, LOGOUT, **given)
