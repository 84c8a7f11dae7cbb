"""`POST /login`: a person logs in to the issuer's own applications with a password."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from issuer.oauth import GrantType
from issuer.web.account.device_cookie import DeviceDep
from issuer.web.deps import AccountsDep, ClockDep, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import documented
from issuer.web.instruments import Figures
from issuer.web.oauth.token import TokenBody, no_store, token_body

router = APIRouter(tags=["log in"], route_class=UnambiguousRoute)


@router.post("/login", responses=documented(400, 401, 403, 413, 415, 429, 503))
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

    `scope` asks for some of what the account was granted; without it the token carries all of it. What was not
    granted is left out, also when nothing remains.
    This is the grant `password` for the built-in client `first-party`: `client_id` and `client_secret`
    are not looked at. The cookie names this device, so that wrong passwords tried elsewhere do not hold it up.
    """
    request.scope["grant"] = GrantType.PASSWORD.value
    parameters = {"username": form.username, "password": form.password, "scope": " ".join(form.scopes)}
    pipeline = tokens.pipeline
    checked = await anyio.to_thread.run_sync(pipeline.check_login, parameters, origin, clock())
    # Read the clock when the job runs: it may have been queued for a while.
    answer = await accounts.hashing_pool.run(
        checked.hashing_queue, lambda: pipeline.execute_login(checked, clock())
    )
    Figures.of(request).issued(GrantType.PASSWORD.value, answer.kid)
    no_store(response)
    return token_body(answer)
