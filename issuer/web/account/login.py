"""`POST /login`: log-in of a user to first-party applications with a password."""

import time
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from issuer.oauth import (
    SCOPE_SYNTAX,
    AccessDenied,
    GrantType,
    InvalidScope,
    LoginFailed,
    TooManyAttempts,
    Unavailable,
)
from issuer.web.account.device_cookie import DeviceDep
from issuer.web.deps import AccountsDep, ClockDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.errors import documented
from issuer.web.http.forms import FORM, JSON, MULTIPART, wrong_type
from issuer.web.instruments import Instruments
from issuer.web.oauth.token import TokenBody, no_store, report_token, token_body

router = APIRouter(tags=["log in"], route_class=UnambiguousRoute)


@router.post(
    "/login",
    summary="Log in with a password",
    response_model_exclude_none=True,
    responses=documented(
        wrong_type(JSON, FORM, MULTIPART),
        InvalidScope(SCOPE_SYNTAX),
        LoginFailed,
        AccessDenied,
        *BODY_ERRORS,
        TooManyAttempts,
        Unavailable,
    ),
)
async def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    accounts: AccountsDep,
    tokens: TokensDep,
    clock: ClockDep,
    origin: DeviceDep,
    request: Request,
    response: Response,
) -> TokenBody:
    """Exchange username and password for an access token and a refresh token.

    `scope` requests a subset of the scopes granted to the account; without it the token has all of them. Scopes that
    were not granted are left out, even if none remains.
    This is the grant `password` of the built-in client `first-party`: `client_id` and `client_secret` are ignored.
    The response sets the device cookie: failed log-ins from other devices do not slow down log-ins from this one.
    """
    began = time.perf_counter()
    request.scope["grant"] = GrantType.PASSWORD.value
    parameters = {"username": form.username, "password": form.password, "scope": " ".join(form.scopes)}
    pipeline = tokens.pipeline
    checked = await anyio.to_thread.run_sync(pipeline.check_login, parameters, origin, clock())
    # Read the clock when the job runs: it may have been queued for a while.
    answer = await accounts.hashing_pool.run(
        checked.hashing_queue, lambda: pipeline.execute_login(checked, clock())
    )
    report_token(Instruments.of(request), GrantType.PASSWORD.value, answer, began)
    no_store(response)
    # As FastAPI's tutorial spells it.
    return token_body(answer).model_copy(update={"token_type": "bearer"})
