"""`GET` and `POST /oauth2/userinfo`, OpenID Connect Core section 5.3: claims about the user of an access token.

The token comes in the Authorization header or in a form, RFC 6750 sections 2.1 and 2.2; never in the URL.
"""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from issuer.oauth import InsufficientScope, InvalidRequest, Unavailable
from issuer.web.deps import CALLER_ERRORS, ClockDep, TokensDep, access_token, password_login
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS, read_body
from issuer.web.http.errors import NO_STORE, Documented, MissingToken, answered, documented
from issuer.web.http.forms import FORM, media_type, read_form

router = APIRouter(tags=["OAuth"], route_class=UnambiguousRoute)

_CLAIMS = {
    "sub": "4b08ddb0-3cb8-4a22-ae67-e4adf1287f68",
    "name": "Alice Liddell",
    "preferred_username": "alice",
    "updated_at": 1769860800,
    "email": "alice@example.com",
    "email_verified": True,
}
_TWICE = InvalidRequest("the access token is in the header and in the form; send it in one of them")
_ERRORS: tuple[Documented, ...] = (*CALLER_ERRORS, InsufficientScope, Unavailable)
_RESPONSES = answered(_CLAIMS) | documented(*_ERRORS)
_RESPONSES_TO_FORMS = answered(_CLAIMS) | documented(*_ERRORS, _TWICE, *BODY_ERRORS)
_FORM = {
    "requestBody": {
        "content": {FORM: {"schema": {"type": "object", "properties": {"access_token": {"type": "string"}}}}}
    }
}


async def get_token(
    request: Request,
    header: Annotated[str | None, Depends(password_login)],
    _the_same: Annotated[object, Depends(access_token)],
) -> str:
    """Return the access token of a request; raise MissingToken, or InvalidRequest if it has two."""
    form = None
    content_type = request.headers.get("content-type", "")
    if request.method == "POST" and media_type(content_type) == FORM:
        parameters, _ = read_form(content_type, await read_body(request))
        form = parameters.get("access_token")
    if header and form:
        raise _TWICE
    token = header or form
    if not token:
        raise MissingToken
    return token


AccessToken = Annotated[str, Depends(get_token)]


@router.get(
    "/oauth2/userinfo", name="userinfo_endpoint", summary="Get claims about the user", responses=_RESPONSES
)
@router.post(
    "/oauth2/userinfo",
    name="userinfo",
    summary="Get claims about the user by a form",
    responses=_RESPONSES_TO_FORMS,
    openapi_extra=_FORM,
)
async def userinfo(token: AccessToken, tokens: TokensDep, clock: ClockDep) -> JSONResponse:
    """Return `sub`, and what the scopes `profile` and `email` of the access token release.

    The token needs the scope `openid`, and an `aud` that contains the issuer's URL; it ends with its
    session.
    """
    claims = await anyio.to_thread.run_sync(tokens.userinfo.claims, token, clock())
    return JSONResponse(dict(claims), headers=NO_STORE)
