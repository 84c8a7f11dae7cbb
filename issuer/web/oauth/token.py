"""`POST /oauth2/token`: the token endpoint of RFC 6749 section 3.2."""

from functools import partial
from typing import Literal

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from issuer.digests import refresh_token_digest
from issuer.grants.pipeline import Granted, TokenResponse
from issuer.oauth import AuthMethod, GrantType
from issuer.web.deps import get_issuer, get_origin
from issuer.web.http.endpoints import authenticates_clients
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.http.fast_path import run_inline_or_on_thread
from issuer.web.http.forms import described, get_form
from issuer.web.instruments import Instruments

router = APIRouter(tags=["OAuth"])


class TokenBody(BaseModel):
    """A successful response, RFC 6749 section 5.1."""

    access_token: str = Field(description="A signed JWT, RFC 9068; verify it with the keys of the JWKS.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6750, as the first tutorial spells it
    expires_in: int = Field(description="Seconds until the access token expires.")
    scope: str = Field(description="The granted scopes, separated by spaces.")
    refresh_token: str | None = Field(None, description="Valid for one use, which returns a new one.")


def token_body(answer: TokenResponse) -> TokenBody:
    """Return the body of a successful response."""
    return TokenBody(
        access_token=answer.access_token,
        expires_in=answer.expires_in,
        scope=answer.scope,
        refresh_token=answer.refresh_token,
    )


def no_store(response: Response) -> None:
    """Forbid caches to store the response, RFC 6749 section 5.1."""
    response.headers.update(NO_STORE)


@router.post(
    "/oauth2/token",
    name="token_endpoint",
    response_model=TokenBody,
    responses=documented(400, 401, 413, 415, 429, 503),
    openapi_extra=described(
        ["grant_type"],
        grant_type={"type": "string", "enum": [grant.value for grant in GrantType]},
        scope={"type": "string"},
        resource={"type": "array", "items": {"type": "string", "format": "uri"}},
        refresh_token={"type": "string"},
        username={"type": "string"},
        password={"type": "string", "format": "password"},
    ),
)
@authenticates_clients(tuple(AuthMethod))
async def token(request: Request) -> Response:
    """Exchange a grant for an access token.

    Clients authenticate with `Authorization: Basic`, with `client_id` and `client_secret` in the form, or with
    `client_assertion`; public clients send `client_id` only.
    """
    issuer, origin, form = await get_issuer(request), await get_origin(request), await get_form(request)
    instruments, pipeline = Instruments.of(request), issuer.grants.pipeline
    grant_type = request.scope["grant"] = instruments.grant_label(form.parameters.get("grant_type"))

    def grant() -> Granted:
        return pipeline.grant(form, origin, issuer.clock())

    asserted = "client_assertion" in form.parameters  # by keys that may be slow to come
    match grant_type:
        case GrantType.PASSWORD:
            admitted = await anyio.to_thread.run_sync(pipeline.admit, form, origin, issuer.clock())
            answered = await issuer.hashing.run(
                admitted.place,
                lambda: pipeline.sign(pipeline.grant_admitted(admitted, issuer.clock())),
            )
        case GrantType.REFRESH_TOKEN if not asserted:
            digest = refresh_token_digest(form.parameters.get("refresh_token", ""))
            answered = await issuer.batches.run(digest, grant, pipeline.sign)
        case _:
            answered = await request.app.state.signing(
                partial(pipeline.sign, await run_inline_or_on_thread(grant))
            )
    instruments.token_issued(grant_type, answered.kid)
    if answered.is_repeat:
        instruments.refresh_token_retried("answered")
    body = token_body(answered).model_dump_json(exclude_none=True)
    return Response(body, media_type="application/json", headers=NO_STORE)


FAST_PATHS = {("POST", "/oauth2/token"): token}
