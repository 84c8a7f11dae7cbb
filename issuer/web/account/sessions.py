"""A user's sessions: `GET /users/me/sessions`, `DELETE /users/me/sessions/{id}` and `POST /logout`."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import anyio.to_thread
import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from issuer.oauth import InvalidRequest, NotFound, Unavailable, format_scope
from issuer.tokens.refresh import Family
from issuer.web.deps import CALLER_ERRORS, ClockDep, CurrentCaller, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["accounts"], route_class=UnambiguousRoute)
log = structlog.get_logger("issuer.web")

ENDED: dict[int | str, dict[str, Any]] = {
    204: {"description": "The session has ended. Other services accept its access tokens until they expire."}
}

NO_SESSION = "no such session, or it has ended"


class Session(BaseModel):
    """A session: a log-in with a refresh token."""

    id: str = Field(
        description="The `grant_id` of its access tokens.", examples=["78700218-2b0d-4497-afcd-5f7379bd68c4"]
    )
    client_id: str = Field(examples=["first-party"])
    scope: str = Field(examples=["items:read"])
    created_at: datetime = Field(
        description="Start of the session, to the minute.", examples=["2026-01-31T12:00:00Z"]
    )
    used_at: datetime = Field(
        description="Last refresh, to the hour; not before `created_at`.", examples=["2026-01-31T15:00:00Z"]
    )
    expires_at: datetime = Field(
        description="Latest end of the session, to the minute.", examples=["2027-01-26T12:00:00Z"]
    )
    user_agent: str = Field(examples=["Mozilla/5.0 (X11; Linux x86_64)"])
    address: str = Field(description="IP address of the log-in.", examples=["203.0.113.7"])
    current: bool = Field(
        description="Whether the access token of this request belongs to the session.", examples=[True]
    )


class Sessions(BaseModel):
    """The sessions of a user, newest first."""

    sessions: list[Session]


def _session(family: Family, used_at: datetime, current: str) -> Session:
    # Rounded: exact times would tell an attacker with stolen tokens when the owner's application refreshes.
    began = _rounded_down(family.created_at, timedelta(minutes=1))
    return Session(
        id=family.id,
        client_id=family.client_id,
        scope=format_scope(family.scope),
        created_at=began,
        used_at=max(began, _rounded_down(used_at, timedelta(hours=1))),
        expires_at=_rounded_down(family.expires_at, timedelta(minutes=1)),
        user_agent=family.user_agent,
        address=family.address,
        current=family.id == current,
    )


def _rounded_down(at: datetime, unit: timedelta) -> datetime:
    return at - (at - datetime.min.replace(tzinfo=at.tzinfo)) % unit


@router.get(
    "/users/me/sessions", summary="List my sessions", responses=documented(*CALLER_ERRORS, Unavailable)
)
async def sessions(caller: CurrentCaller, tokens: TokensDep, clock: ClockDep, response: Response) -> Sessions:
    """List the sessions of the user."""
    found, damaged = await anyio.to_thread.run_sync(tokens.families.active, caller.user.id, clock())
    for error in damaged:
        log.error("damaged session not listed", reason=str(error))
    no_store(response)
    return Sessions(sessions=[_session(family, used_at, caller.session) for family, used_at in found])


@router.delete(
    "/users/me/sessions/{id}",
    summary="End a session",
    status_code=204,
    response_class=Response,
    responses={**ENDED, **documented(*CALLER_ERRORS, NotFound(NO_SESSION), Unavailable)},
)
async def end_session(
    session: Annotated[str, Path(alias="id")], caller: CurrentCaller, tokens: TokensDep, clock: ClockDep
) -> Response:
    """End a session of the user: its refresh token is no longer valid."""

    def end() -> bool:
        try:
            family_id = str(UUID(session))
        except ValueError:
            return False
        return tokens.families.end(family_id, clock(), user_id=caller.user.id)

    if not await anyio.to_thread.run_sync(end):
        raise NotFound(NO_SESSION)
    return Response(status_code=204, headers=NO_STORE)


@router.post(
    "/logout",
    summary="Log out",
    status_code=204,
    response_class=Response,
    responses={**ENDED, **documented(InvalidRequest("everywhere is not valid"), *CALLER_ERRORS, Unavailable)},
)
async def logout(
    caller: CurrentCaller,
    tokens: TokensDep,
    clock: ClockDep,
    *,
    everywhere: Annotated[bool, Query(description="End all sessions of the user.")] = False,
) -> Response:
    """End the session of the access token."""

    def end() -> None:
        now = clock()
        if everywhere:
            tokens.families.end_all(now, caller.user.id)
        else:
            tokens.families.end(caller.session, now)

    await anyio.to_thread.run_sync(end)
    return Response(status_code=204, headers=NO_STORE)
