"""`POST /oauth2/token`: the token endpoint of RFC 6749 section 3.2."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from issuer.accounts.hashing_pool import HashingPool
from issuer.clock import Clock
from issuer.digests import digest
from issuer.grants.context import Workload
from issuer.grants.registry import GRANTS
from issuer.grants.response import TokenResponse, UnsignedTokenResponse
from issuer.oauth import (
    AuthMethod,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    OAuthRequest,
    TooManyAttempts,
    UnauthorizedClient,
    Unavailable,
    UnsupportedGrantType,
)
from issuer.services import Tokens
from issuer.throttling.origin import Origin
from issuer.tokens.family_queries import Found
from issuer.web.deps import get_issuer, get_origin
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.endpoints import authenticates_clients
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.http.fast_path import run_inline_or_on_thread
from issuer.web.http.forms import FORM, JSON, described, get_form, wrong_type
from issuer.web.instruments import Instruments

router = APIRouter(tags=["OAuth"])
log = structlog.get_logger("issuer.tokens")


class TokenBody(BaseModel):
    """A successful response, RFC 6749 section 5.1."""

    access_token: str = Field(
        description="A signed JWT, RFC 9068; verify it with the keys of the JWKS.",
        examples=["eyJhbGciOiJSUzI1NiIs…"],
    )
    token_type: Literal["Bearer", "bearer"] = "Bearer"  # noqa: S105 - OpenID Connect Core 3.1.3.3
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[600])
    scope: str = Field(description="The granted scopes, separated by spaces.", examples=["items:read"])
    id_token: str | None = Field(
        None,
        description="The user and the sign-in, OpenID Connect Core section 2; with the scope `openid` only.",
        examples=["eyJhbGciOiJSUzI1NiIs…"],
    )
    refresh_token: str | None = Field(
        None, description="Valid for one use, which returns a new one.", examples=["kPq0vW1c…"]
    )


def token_body(answer: TokenResponse) -> TokenBody:
    """Return the body of a successful response."""
    return TokenBody(
        access_token=answer.access_token,
        expires_in=answer.expires_in,
        scope=answer.scope,
        id_token=answer.id_token,
        refresh_token=answer.refresh_token,
    )


@dataclass(frozen=True)
class TokenCall:
    """A request to the token endpoint, and what executes it."""

    tokens: Tokens
    hashing_pool: HashingPool
    clock: Clock
    form: OAuthRequest
    origin: Origin
    signing: Callable[[Callable[[], TokenResponse]], Awaitable[TokenResponse]]
    """Runs a signature, on a thread of its own if this process has one for that."""
    slow_threads: anyio.CapacityLimiter

    def grant(self) -> UnsignedTokenResponse:
        """Do everything except signing."""
        return self.tokens.pipeline.grant(self.form, self.origin, self.clock())

    def decide(self, found: Found) -> UnsignedTokenResponse:
        """Do everything except signing and storing the rotation; the token was looked up before."""
        return self.tokens.pipeline.decide(self.form, self.origin, self.clock(), found)


async def _sign(call: TokenCall) -> TokenResponse:
    """Execute on the event loop if nothing blocks: a thread costs more than the work."""
    unsigned = await run_inline_or_on_thread(call.grant)
    return await call.signing(partial(call.tokens.pipeline.sign, unsigned))


async def _sign_with_slow_claims(call: TokenCall) -> TokenResponse:
    """Execute on one of few threads: a function of the operator that hangs must not take those of all requests."""
    unsigned = await anyio.to_thread.run_sync(call.grant, limiter=call.slow_threads)
    return await call.signing(partial(call.tokens.pipeline.sign, unsigned))


async def _hash(call: TokenCall) -> TokenResponse:
    """Execute on the hashing pool, which is shared fairly between networks; check before the request may queue."""
    pipeline = call.tokens.pipeline
    checked = await anyio.to_thread.run_sync(pipeline.check, call.form, call.origin, call.clock())
    # Read the clock when the job runs: it may have been queued for a while.
    return await call.hashing_pool.run(
        checked.hashing_queue, lambda: pipeline.sign(pipeline.execute(checked, call.clock()))
    )


async def _rotate(call: TokenCall) -> TokenResponse:
    """Execute in a group commit: rotations that arrive together wait for the disk once."""
    token = digest(call.form.parameters.get("refresh_token", ""))
    return await call.tokens.group_commit.run(token, call.decide, call.grant, call.tokens.pipeline.sign)


EXECUTORS: Mapping[Workload, Callable[[TokenCall], Awaitable[TokenResponse]]] = {
    Workload.SIGNING: _sign,
    Workload.HASHING: _hash,
    Workload.ROTATION: _rotate,
}


def _executor(
    form: OAuthRequest, *, claims_may_block: bool
) -> Callable[[TokenCall], Awaitable[TokenResponse]]:
    """Return what executes a request; anything refuses an unknown grant."""
    grant = GRANTS.get(form.parameters.get("grant_type", ""))
    workload = grant.workload if grant else Workload.SIGNING
    if claims_may_block and workload is not Workload.HASHING:
        return _sign_with_slow_claims
    # The keys that verify an assertion may have to be fetched, and must not delay the rotations of others.
    is_slow = workload is Workload.ROTATION and "client_assertion" in form.parameters
    return EXECUTORS[Workload.SIGNING if is_slow else workload]


def report_token(instruments: Instruments, grant: str, answer: TokenResponse, began: float) -> None:
    """Count and log an access token; `began` is when the endpoint began, by `time.perf_counter`."""
    instruments.token_issued(grant, answer.kid)
    log.info(
        "token issued",
        grant=grant,
        client=answer.client_id,
        user=answer.user_id,
        kid=answer.kid,
        milliseconds=round((time.perf_counter() - began) * 1000, 1),
    )


def no_store(response: Response) -> None:
    """Forbid caches to store the response, RFC 6749 section 5.1."""
    response.headers.update(NO_STORE)


@router.post(
    "/oauth2/token",
    name="token_endpoint",
    summary="Issue a token",
    response_model=TokenBody,
    responses=documented(
        wrong_type(JSON, FORM),
        InvalidRequest("the parameter grant_type is missing"),
        UnsupportedGrantType,
        InvalidGrant,
        InvalidScope,
        InvalidTarget,
        UnauthorizedClient,
        InvalidClient,
        *BODY_ERRORS,
        TooManyAttempts,
        Unavailable,
    ),
    openapi_extra=described(
        ["grant_type"],
        grant_type={"type": "string", "enum": list(GRANTS)},
        scope={"type": "string"},
        resource={"type": "array", "items": {"type": "string"}, "description": "URIs, RFC 8707."},
        **{name: schema for grant in GRANTS.values() for name, schema in grant.parameters.items()},
    ),
)
@authenticates_clients(tuple(AuthMethod))
async def token(request: Request) -> Response:
    """Exchange a grant for an access token.

    Clients authenticate with `Authorization: Basic`, with `client_id` and `client_secret` in the form, or with
    `client_assertion`; public clients send `client_id` only.
    """
    began = time.perf_counter()
    issuer, origin, form = await get_issuer(request), await get_origin(request), await get_form(request)
    instruments = Instruments.of(request)
    grant_type = request.scope["grant"] = instruments.grant_label(form.parameters.get("grant_type"))
    execute = _executor(form, claims_may_block=issuer.tokens.pipeline.claims_may_block)
    answered = await execute(
        TokenCall(
            issuer.tokens,
            issuer.accounts.hashing_pool,
            issuer.clock,
            form,
            origin,
            request.app.state.signing,
            request.app.state.slow_threads,
        )
    )
    report_token(instruments, grant_type, answered, began)
    if answered.is_repeat:
        instruments.refresh_token_retried("answered")
    body = token_body(answered).model_dump_json(exclude_none=True)
    return Response(body, media_type="application/json", headers=NO_STORE)


FAST_PATHS = {("POST", "/oauth2/token"): token}
