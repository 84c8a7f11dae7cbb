"""`POST /oauth2/introspect`, RFC 7662: whether a token is valid now."""

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from issuer.oauth import CONFIDENTIAL_METHODS, InvalidClient, InvalidRequest, TooManyAttempts, Unavailable
from issuer.web.deps import ClientsDep, ClockDep, OriginDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.endpoints import authenticates_clients
from issuer.web.http.errors import answered, documented
from issuer.web.http.forms import FORM, JSON, FormDep, described, wrong_type
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["OAuth"], route_class=UnambiguousRoute)


class IntrospectionBody(BaseModel):
    """The state of a token, RFC 7662 section 2.2; the other members are the claims of a valid token."""

    model_config = ConfigDict(extra="allow")

    active: bool


_ACTIVE = {
    "active": True,
    "token_type": "Bearer",
    "iss": "https://issuer.example",
    "sub": "4b08ddb0-3cb8-4a22-ae67-e4adf1287f68",
    "aud": ["https://api.example", "https://issuer.example"],
    "client_id": "first-party",
    "iat": 1769860800,
    "exp": 1769861400,
    "jti": "BIqGtpj96tRGzp9riuNOig",
    "scope": "items:read",
    "username": "alice",
}


@router.post(
    "/oauth2/introspect",
    name="introspection_endpoint",
    summary="Introspect a token",
    responses=answered(_ACTIVE)
    | documented(
        wrong_type(JSON, FORM),
        InvalidRequest("the parameter token is missing"),
        InvalidClient,
        *BODY_ERRORS,
        TooManyAttempts,
        Unavailable,
    ),
    openapi_extra=described(["token"], token={"type": "string"}, token_type_hint={"type": "string"}),
)
@authenticates_clients(CONFIDENTIAL_METHODS)
async def introspect(
    form: FormDep,
    clients: ClientsDep,
    tokens: TokensDep,
    clock: ClockDep,
    origin: OriginDep,
    response: Response,
) -> IntrospectionBody:
    """Return whether a token is valid now, and the claims of a valid token."""

    def respond() -> Mapping[str, Any]:
        now = clock()
        client = clients.authentication.confidential(form, origin, now)
        return tokens.introspection.introspect(client, form.parameters, now)

    answer = await anyio.to_thread.run_sync(respond)
    no_store(response)
    return IntrospectionBody(**answer)
