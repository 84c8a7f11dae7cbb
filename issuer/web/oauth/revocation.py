"""`POST /oauth2/revoke`, RFC 7009: a client revokes a token."""

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.oauth import (
    AuthMethod,
    InvalidClient,
    InvalidRequest,
    TooManyAttempts,
    UnauthorizedClient,
    Unavailable,
    UnsupportedTokenType,
)
from issuer.web.deps import ClientsDep, ClockDep, OriginDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.endpoints import authenticates_clients
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.http.forms import FORM, JSON, FormDep, described, wrong_type

router = APIRouter(tags=["OAuth"], route_class=UnambiguousRoute)


@router.post(
    "/oauth2/revoke",
    name="revocation_endpoint",
    summary="Revoke a token",
    response_class=Response,
    responses={
        200: {"description": "The token is not valid, whether or not it ever was."},
        **documented(
            wrong_type(JSON, FORM),
            InvalidRequest("the parameter token is missing"),
            UnauthorizedClient("the token was issued to another client"),
            UnsupportedTokenType,
            InvalidClient,
            *BODY_ERRORS,
            TooManyAttempts,
            Unavailable,
        ),
    },
    openapi_extra=described(["token"], token={"type": "string"}, token_type_hint={"type": "string"}),
)
@authenticates_clients(tuple(AuthMethod))
async def revoke(
    form: FormDep, clients: ClientsDep, tokens: TokensDep, clock: ClockDep, origin: OriginDep
) -> Response:
    """End the session of a refresh token or of an access token.

    Other services accept access tokens that were already issued until they expire.
    """

    def respond() -> None:
        now = clock()
        client = clients.authentication.client(form, origin, now)
        tokens.revocation.revoke(client, form.parameters, now)

    await anyio.to_thread.run_sync(respond)
    return Response(headers=NO_STORE)
