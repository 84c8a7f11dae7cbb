"""Dependencies of endpoints, as Annotated aliases."""

from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer, OAuth2PasswordBearer

from issuer.clock import Clock
from issuer.oauth import InvalidToken
from issuer.services import Accounts, Administration, Authorize, Clients, Issuer, Sessions, Tokens
from issuer.throttling.origin import Origin
from issuer.tokens.bearer import Caller
from issuer.web.http.errors import Documented, MissingToken

LABEL_MOST_CHARACTERS = 200

password_login = OAuth2PasswordBearer(
    tokenUrl="/login",
    scheme_name="password_login",
    auto_error=False,
    description="Log in with an account of this issuer.",
)
access_token = HTTPBearer(
    bearerFormat="JWT",
    scheme_name="access_token",
    auto_error=False,
    description="An access token of a user, for this issuer.",
)
CALLER_ERRORS: tuple[Documented, ...] = (MissingToken, InvalidToken)
"""Errors of every endpoint that needs an access token."""


async def get_issuer(request: Request) -> Issuer:
    """Return the issuer that `wiring.build` made for this process."""
    issuer: Issuer = request.app.state.issuer
    return issuer


IssuerDep = Annotated[Issuer, Depends(get_issuer)]


async def get_accounts(issuer: IssuerDep) -> Accounts:
    """Return what endpoints for users need."""
    return issuer.accounts


async def get_clients(issuer: IssuerDep) -> Clients:
    """Return what authenticates clients."""
    return issuer.clients


async def get_sessions(issuer: IssuerDep) -> Sessions:
    """Return what knows the browsers that are signed in."""
    return issuer.sessions


async def get_authorize(issuer: IssuerDep) -> Authorize:
    """Return what decides about authorization requests and consents."""
    return issuer.authorize


async def get_tokens(issuer: IssuerDep) -> Tokens:
    """Return what issues, verifies and revokes tokens."""
    return issuer.tokens


async def get_clock(issuer: IssuerDep) -> Clock:
    """Return the clock of this process."""
    return issuer.clock


async def get_administration(issuer: IssuerDep) -> Administration:
    """Return what changes accounts together with their sessions."""
    return issuer.administration


async def get_url(issuer: IssuerDep) -> str:
    """Return the URL of the issuer."""
    return issuer.settings.url


AccountsDep = Annotated[Accounts, Depends(get_accounts)]
ClientsDep = Annotated[Clients, Depends(get_clients)]
SessionsDep = Annotated[Sessions, Depends(get_sessions)]
AuthorizeDep = Annotated[Authorize, Depends(get_authorize)]
TokensDep = Annotated[Tokens, Depends(get_tokens)]
AdministrationDep = Annotated[Administration, Depends(get_administration)]
ClockDep = Annotated[Clock, Depends(get_clock)]
UrlDep = Annotated[str, Depends(get_url)]
"""The URL of the issuer."""


async def get_origin(request: Request) -> Origin:
    """Return the address and user agent of a request; the user agent is cut, and without control characters."""
    agent = request.headers.get("user-agent", "")[:LABEL_MOST_CHARACTERS]
    if not agent.isprintable():
        agent = "".join(filter(str.isprintable, agent))
    return Origin(agent, request.client.host if request.client else "")


OriginDep = Annotated[Origin, Depends(get_origin)]


async def get_current_caller(
    tokens: TokensDep,
    clock: ClockDep,
    token: Annotated[str | None, Depends(password_login)],
    _the_same: Annotated[object, Depends(access_token)],
) -> Caller:
    """Return who manages an account by the request's access token; OpenAPI has two ways to get one."""
    if not token:
        raise MissingToken
    return await anyio.to_thread.run_sync(tokens.bearer.owner, token, clock())


CurrentCaller = Annotated[Caller, Depends(get_current_caller)]
