"""`POST /users` makes an account; `GET /users/me` is the caller's own."""

from datetime import datetime
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, SecretStr

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, PASSWORD_MOST_BYTES, USERNAME_LENGTH, User
from issuer.oauth import format_scope
from issuer.throttling.limits import networks_of
from issuer.web.account.device_cookie import DeviceDep
from issuer.web.deps import AccountsDep, ClockDep, CurrentCaller
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import documented
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["accounts"], route_class=UnambiguousRoute)


class Registration(BaseModel):
    """What a new account is made of."""

    username: Annotated[
        str, Field(description=f"1 to {USERNAME_LENGTH} letters, digits and . _ - @ +", examples=["alice"])
    ]
    password: Annotated[
        SecretStr,
        Field(
            description=f"{PASSWORD_LEAST_CHARACTERS} characters at least, {PASSWORD_MOST_BYTES} bytes at most,"
            " not the username and not a common one.",
            examples=["violet otters juggle pancakes"],
        ),
    ]


class Account(BaseModel):
    """An account, as its owner sees it."""

    id: str = Field(description="The `sub` of its tokens; never changes.")
    username: str
    scope: str = Field(description="What an operator granted, separated by spaces.")
    created_at: datetime


def _account(user: User) -> Account:
    return Account(
        id=user.id, username=user.username, scope=format_scope(user.scope), created_at=user.created_at
    )


@router.post("/users", status_code=201, responses=documented(400, 403, 409, 413, 415, 429, 503))
async def register(
    registration: Registration, accounts: AccountsDep, clock: ClockDep, origin: DeviceDep, response: Response
) -> Account:
    """Make an account; it is granted no scope yet. The cookie names this device, as at `/login`."""
    given = registration.username, registration.password.get_secret_value(), origin
    await anyio.to_thread.run_sync(accounts.registration.admit, *given, clock())
    user = await accounts.hashing_pool.run(
        (*networks_of(origin.address), "registration"), lambda: accounts.registration.make(*given, clock())
    )
    no_store(response)
    return _account(user)


@router.get("/users/me", responses=documented(401, 503))
async def me(caller: CurrentCaller, response: Response) -> Account:
    """Return the account behind the access token, whose `aud` must hold the issuer's URL."""
    no_store(response)
    return _account(caller.user)
