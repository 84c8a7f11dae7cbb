"""`POST /oauth2/token`: the token endpoint of RFC 6749 section 3.2."""

from typing import Any, Literal
from urllib.parse import parse_qsl

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from issuer.grants.pipeline import TokenResponse
from issuer.oauth import GrantType, InvalidRequest
from issuer.web.deps import IssuerDep, OriginDep
from issuer.web.errors import NO_STORE, documented

router = APIRouter(tags=["OAuth"])

FORM = "application/x-www-form-urlencoded"
FIELDS_MOST = 50


class TokenBody(BaseModel):
    """A successful answer, RFC 6749 section 5.1."""

    access_token: str = Field(description="A signed JWT, RFC 9068; verify it through the JWKS.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6750, as the first tutorial spells it
    expires_in: int = Field(description="Seconds until the access token expires.")
    scope: str = Field(description="What the access token allows, separated by spaces.")
    refresh_token: str | None = Field(None, description="Good for one use, and yields the next.")


def token_body(answer: TokenResponse) -> TokenBody:
    """Return `answer` as it is written."""
    return TokenBody(
        access_token=answer.access_token,
        expires_in=answer.expires_in,
        scope=answer.scope,
        refresh_token=answer.refresh_token,
    )


def no_store(response: Response) -> None:
    """Forbid caches to keep the answer, RFC 6749 section 5.1."""
    response.headers.update(NO_STORE)


_FORM_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": [grant.value for grant in GrantType]},
        "scope": {"type": "string"},
        "resource": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string", "format": "password"},
        "refresh_token": {"type": "string"},
        "username": {"type": "string"},
        "password": {"type": "string", "format": "password"},
    },
}


@router.post(
    "/oauth2/token",
    name="token_endpoint",
    response_model_exclude_none=True,
    responses=documented(400, 401, 413, 503),
    openapi_extra={"requestBody": {"required": True, "content": {FORM: {"schema": _FORM_PARAMETERS}}}},
)
async def token(request: Request, issuer: IssuerDep, origin: OriginDep, response: Response) -> TokenBody:
    """Exchange a grant for an access token.

    Clients authenticate with `Authorization: Basic` or with `client_id` and `client_secret` in the form;
    public clients send `client_id` alone.
    """
    parameters, resources = read_form(request.headers.get("content-type", ""), await request.body())
    authorization = request.headers.get("authorization")

    def respond() -> TokenResponse:
        return issuer.pipeline.token(parameters, resources, authorization, origin, issuer.clock())

    if parameters.get("grant_type") == GrantType.PASSWORD:
        answer = await issuer.hashing.run(respond)
    else:
        answer = await anyio.to_thread.run_sync(respond)
    no_store(response)
    return token_body(answer)


def read_form(content_type: str, body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the parameters of a form and its `resource` values; raise InvalidRequest, RFC 6749 section 3.2.

    A parameter without a value counts as left out; only `resource` may be repeated (RFC 8707 section 2).
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise InvalidRequest(f"send the parameters as {FORM}")
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST
        )
    except ValueError:  # no ASCII, no UTF-8 behind the percent signs, or too many fields
        raise InvalidRequest("the form is malformed") from None
    given = [(name, value) for name, value in fields if value and name != "resource"]
    parameters = dict(given)
    if len(parameters) != len(given):
        raise InvalidRequest("a parameter is repeated")
    return parameters, tuple(value for name, value in fields if name == "resource" and value)
