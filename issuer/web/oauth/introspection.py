"""`POST /oauth2/introspect`, RFC 7662: whether a token is valid now."""

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from issuer.web.deps import ClientsDep, ClockDep, OriginDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import documented
from issuer.web.http.forms import FormDep, described
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["OAuth"], route_class=UnambiguousRoute)


class IntrospectionBody(BaseModel):
    """What is known of a token, RFC 7662 section 2.2; the other members are the token's claims."""

    model_config = ConfigDict(extra="allow")

    active: bool


@router.post(
    "/oauth2/introspect",
    name="introspection_endpoint",
    responses=documented(400, 401, 413, 415, 429, 503),
    openapi_extra=described(["token"], token={"type": "string"}, token_type_hint={"type": "string"}),
)
async def introspect(
    form: FormDep,
    clients: ClientsDep,
    tokens: TokensDep,
    clock: ClockDep,
    origin: OriginDep,
    response: Response,
) -> IntrospectionBody:
    """Return whether a token is valid now, and its claims if it is."""

    def respond() -> Mapping[str, Any]:
        now = clock()
        client = clients.authentication.confidential(form, origin, now)
        return tokens.introspection.introspect(client, form.parameters, now)

    answer = await anyio.to_thread.run_sync(respond)
    no_store(response)
    return IntrospectionBody(**answer)
