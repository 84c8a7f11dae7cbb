"""`POST /oauth2/par`: pushed authorization requests, RFC 9126."""

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from issuer.authorize.errors import (
    RequestNotSupported,
    UnsupportedResponseType,
)
from issuer.authorize.pushed import PUSHED_LIFETIME, PUSHED_MOST_BYTES
from issuer.oauth import (
    AuthMethod,
    InvalidClient,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    OAuthRequest,
    TooManyAttempts,
    Unavailable,
)
from issuer.web.deps import AuthorizeDep, ClientsDep, ClockDep, OriginDep
from issuer.web.http.body_limit import BODY_ERRORS, read_body
from issuer.web.http.endpoints import authenticates_clients
from issuer.web.http.errors import documented
from issuer.web.http.forms import (
    FORM,
    JSON,
    authorization_of,
    described,
    read_verbatim,
    require_type,
    wrong_type,
)
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["OAuth"])

CREDENTIALS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})
"""Parameters that authenticate the client, and are no part of the request."""


class PushedBody(BaseModel):
    """A successful response, RFC 9126 section 2.2."""

    request_uri: str = Field(
        description="For the authorization endpoint, with `client_id`.",
        examples=["urn:ietf:params:oauth:request_uri:bwc4JK-ESC0w8acc191e-Y1LTC2"],
    )
    expires_in: int = Field(description="Seconds until it expires.", examples=[60])


@router.post(
    "/oauth2/par",
    name="pushed_authorization_request_endpoint",
    summary="Push an authorization request",
    status_code=201,
    responses=documented(
        wrong_type(JSON, FORM),
        InvalidRequest("response_type is missing"),
        UnsupportedResponseType,
        RequestNotSupported,
        InvalidScope("this client may have none of the requested scopes"),
        InvalidTarget,
        InvalidClient,
        *BODY_ERRORS,
        TooManyAttempts,
        Unavailable,
    ),
    openapi_extra=described(
        ["response_type", "redirect_uri"],
        response_type={"type": "string", "enum": ["code"]},
        redirect_uri={"type": "string", "description": "One that is registered for the client."},
        scope={"type": "string"},
        state={"type": "string"},
        code_challenge={"type": "string"},
        code_challenge_method={"type": "string", "enum": ["S256"]},
        nonce={"type": "string"},
        resource={"type": "array", "items": {"type": "string"}, "description": "URIs, RFC 8707."},
    ),
)
@authenticates_clients(tuple(AuthMethod))
async def push(
    request: Request,
    authorize: AuthorizeDep,
    clients: ClientsDep,
    clock: ClockDep,
    origin: OriginDep,
    response: Response,
) -> PushedBody:
    """Store the parameters of an authorization request, and return the `request_uri` that stands for them.

    Clients authenticate as at the token endpoint. The request is validated as at the authorization endpoint.
    """
    require_type(request.headers.get("content-type", ""), (FORM,))
    body = (await read_body(request)).rstrip(b"\r\n")
    if len(body) > PUSHED_MOST_BYTES:
        raise InvalidRequest(f"the request is larger than {PUSHED_MOST_BYTES} bytes")
    sent = read_verbatim(body)
    parameters = dict(sent)
    form = OAuthRequest(parameters, (), authorization_of(request, parameters))

    def store() -> str:
        now = clock()
        client = clients.authentication.client(form, origin, now)
        pushed = tuple((name, value) for name, value in sent if name not in CREDENTIALS)
        return authorize.flow.push(client, pushed, origin, now)

    request_uri = await anyio.to_thread.run_sync(store)
    no_store(response)
    return PushedBody(request_uri=request_uri, expires_in=int(PUSHED_LIFETIME.total_seconds()))
