"""`/oauth2/logout`: the end session endpoint, OpenID Connect RP-Initiated Logout 1.0.

What a request may lead to is decided in `authorize.sign_out`; its pages are those of `pages.signout`.
"""

from typing import Annotated, Any
from urllib.parse import urlencode

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from issuer.oauth import InvalidRequest
from issuer.web.deps import IssuerDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.endpoints import renders_errors
from issuer.web.http.forms import FORM, FormDep
from issuer.web.pages.browser import BrowserDep, delete_session_cookie
from issuer.web.pages.form_tokens import FormTokensDep
from issuer.web.pages.paths import LOGOUT
from issuer.web.pages.rendering import redirect
from issuer.web.pages.signout import ask, end, leave, refused, signed_out

router = APIRouter(tags=["sign-out"], route_class=UnambiguousRoute)

NAME = "end_session_endpoint"
REQUEST_MOST_CHARACTERS = 7000
"""Of a request that is sent as a form: it must fit in a URL, for which servers accept 8 KiB."""


class LogoutParameters(BaseModel):
    """The parameters of a logout request, section 2."""

    id_token_hint: str | None = Field(
        None, description="An ID token that the client got for the user; it may have expired."
    )
    client_id: str | None = Field(None, description="The client, if there is no `id_token_hint`.")
    post_logout_redirect_uri: str | None = Field(
        None,
        description="Where the user returns to: registered for the client, and equal character by character.",
    )
    state: str | None = Field(None, description="Returned with the redirect.")
    logout_hint: str | None = Field(None, description="Accepted without effect.")
    ui_locales: str | None = Field(None, description="Accepted without effect.")

    def given(self) -> dict[str, str]:
        """Return what was sent; a parameter without a value counts as omitted, RFC 6749 section 3.1."""
        return {name: value for name, value in self if value}


_FORM: dict[str, Any] = {
    "requestBody": {
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string", "description": field.description}
                        for name, field in LogoutParameters.model_fields.items()
                    },
                }
            }
        }
    }
}
_PAGE: dict[str, Any] = {"content": {"text/html": {}}}
_REFUSED = {"description": "The request is not valid: a page, never a redirect.", **_PAGE}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page: asks the user, or says that nobody is signed in.", **_PAGE},
    303: {"description": "The user is signed out and returns to `post_logout_redirect_uri`, with `state`."},
    "4XX": _REFUSED,
    503: {"description": "The issuer is temporarily unavailable.", **_PAGE},
}


@router.get(LOGOUT, name=NAME, summary="Sign a user out", response_class=Response, responses=_RESPONSES)
@renders_errors(refused)
async def end_session(
    request: Request,
    issuer: IssuerDep,
    browser: BrowserDep,
    tokens: FormTokensDep,
    parameters: Annotated[LogoutParameters, Query()],
) -> Response:
    """Sign the user out at this issuer, and at the clients that are told by back-channel logout.

    At once if `id_token_hint` was issued for the user who is signed in; otherwise a page asks the user.
    """
    logout = await anyio.to_thread.run_sync(
        issuer.logout.sign_out.request, parameters.given(), issuer.clock()
    )
    session = browser.session
    if session and not logout.is_from_user_of(session):
        return await ask(request, issuer, browser, tokens, logout)
    # Without a hint anyone may have made the request: a link on the page, instead of a redirect.
    is_proven = logout.user_id is not None
    answer = leave(request, logout.location) if logout.location and is_proven else signed_out(request, logout)
    if session:
        await end(request, issuer, session)
        delete_session_cookie(answer, issuer.settings.url)
    return answer


@router.post(
    LOGOUT,
    name=NAME,
    summary="Sign a user out, by a form",
    response_class=Response,
    status_code=303,
    openapi_extra=_FORM,
    responses={
        303: {"description": "To the same request by GET."},
        "4XX": _REFUSED,
    },
)
@renders_errors(refused)
async def end_session_by_form(request: Request, form: FormDep) -> Response:
    """Continue by GET: browsers send no cookies with a form of another site (`SameSite=Lax`)."""
    given = {name: form.parameters[name] for name in LogoutParameters.model_fields if name in form.parameters}
    if len(urlencode(given)) > REQUEST_MOST_CHARACTERS:
        raise InvalidRequest(f"the request has more than {REQUEST_MOST_CHARACTERS} characters")
    return redirect(request, LOGOUT, **given)
