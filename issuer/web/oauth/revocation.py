"""`POST /oauth2/revoke`, RFC 7009: a client hands a token back."""

import anyio.to_thread
from fastapi import APIRouter, Response

from issuer.web.deps import ClientsDep, ClockDep, OriginDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.http.forms import FormDep, described

router = APIRouter(tags=["OAuth"], route_class=UnambiguousRoute)


@router.post(
    "/oauth2/revoke",
    name="revocation_endpoint",
    response_class=Response,
    responses={
        200: {"description": "The token is not valid: it never was, or is no longer."},
        **documented(400, 401, 413, 415, 429, 503),
    },
    openapi_extra=described(["token"], token={"type": "string"}, token_type_hint={"type": "string"}),
)
async def revoke(
    form: FormDep, clients: ClientsDep, tokens: TokensDep, clock: ClockDep, origin: OriginDep
) -> Response:
    """End the session of a refresh token or of an access token.

    Other services accept access tokens already issued until they expire.
    """

    def respond() -> None:
        now = clock()
        client = clients.authentication.client(form, origin, now)
        tokens.revocation.revoke(client, form.parameters, now)

    await anyio.to_thread.run_sync(respond)
    return Response(headers=NO_STORE)
