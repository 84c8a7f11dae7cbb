"""`POST /users`: registration, and the account as endpoints return it. Its owner's endpoints are in `own_account`."""

from datetime import datetime
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, SecretStr

from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, PASSWORD_MOST_BYTES, USERNAME_LENGTH, User
from issuer.oauth import (
    AccessDenied,
    InvalidRequest,
    TooManyAttempts,
    Unavailable,
    UsernameTaken,
    format_scope,
)
from issuer.throttling.limits import networks_of
from issuer.web.account.device_cookie import DeviceDep
from issuer.web.deps import AccountsDep, ClockDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.errors import documented
from issuer.web.http.forms import FORM, JSON, wrong_type
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["accounts"], route_class=UnambiguousRoute)


class Registration(BaseModel):
    """A registration."""

    username: Annotated[
        str, Field(description=f"1 to {USERNAME_LENGTH} letters, digits and . _ - @ +", examples=["alice"])
    ]
    password: Annotated[
        SecretStr,
        Field(
            description=f"At least {PASSWORD_LEAST_CHARACTERS} characters and at most {PASSWORD_MOST_BYTES} bytes;"
            " neither the username nor a common password.",
            examples=["violet otters juggle pancakes"],
        ),
    ]


class Account(BaseModel):
    """The account of a user."""

    id: str = Field(
        description="The `sub` of its tokens; it never changes.",
        examples=["4b08ddb0-3cb8-4a22-ae67-e4adf1287f68"],
    )
    username: str = Field(examples=["alice"])
    scope: str = Field(
        description="The scopes granted by operators, also by roles, separated by spaces.",
        examples=["items:read"],
    )
    name: str | None = Field(description="The full name, for display.", examples=["Alice Liddell"])
    email: str | None = Field(description="The e-mail address.", examples=["alice@example.com"])
    email_verified: bool = Field(
        description="Whether it is known that the address is the user's.", examples=[True]
    )
    created_at: datetime = Field(examples=["2026-01-31T12:00:00Z"])


def account_of(user: User) -> Account:
    """Return the account of a user as endpoints return it."""
    return Account(
        id=user.id,
        username=user.username,
        scope=format_scope(user.effective_scope),
        name=user.name,
        email=user.email,
        email_verified=user.email_verified,
        created_at=user.created_at,
    )


@router.post(
    "/users",
    summary="Create an account",
    status_code=201,
    responses=documented(
        wrong_type(FORM, JSON),
        InvalidRequest(f"password must have at least {PASSWORD_LEAST_CHARACTERS} characters"),
        AccessDenied("registration is closed at this issuer; ask the operator for an account"),
        UsernameTaken,
        *BODY_ERRORS,
        TooManyAttempts,
        Unavailable,
    ),
)
async def register(
    registration: Registration, accounts: AccountsDep, clock: ClockDep, origin: DeviceDep, response: Response
) -> Account:
    """Create an account, without any scope.

    The response sets the device cookie, as at `/login`.
    """
    given = registration.username, registration.password.get_secret_value(), origin
    await anyio.to_thread.run_sync(accounts.registration.admit, *given, clock())
    user = await accounts.hashing_pool.run(
        (*networks_of(origin.address), "registration"), lambda: accounts.registration.make(*given, clock())
    )
    no_store(response)
    return account_of(user)
