"""`GET /users/me/sessions` and ending them, one or all: `DELETE /users/me/sessions/{id}`, `POST /logout`."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import anyio.to_thread
import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from issuer.oauth import NotFound, format_scope
from issuer.tokens.refresh import Family
from issuer.web.deps import ClockDep, CurrentCaller, TokensDep
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.errors import NO_STORE, documented
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["accounts"], route_class=UnambiguousRoute)
log = structlog.get_logger("issuer.web")

ENDED: dict[int | str, dict[str, Any]] = {
    204: {"description": "It has ended. Access tokens already issued are valid elsewhere until they expire."}
}


class Session(BaseModel):
    """One log-in that can be refreshed."""

    id: str = Field(description="The `grant_id` of its access tokens.")
    client_id: str
    scope: str
    created_at: datetime = Field(description="When it began, to the minute.")
    used_at: datetime = Field(description="When it was last refreshed, to the hour; not before it began.")
    expires_at: datetime = Field(description="When it ends at the latest, to the minute.")
    user_agent: str
    address: str = Field(description="Where it began.")
    current: bool = Field(description="Whether the request's access token belongs to it.")


class Sessions(BaseModel):
    """The caller's log-ins, newest first."""

    sessions: list[Session]


def _session(family: Family, used_at: datetime, current: str) -> Session:
    # Not to the second: whoever holds copies of the tokens could learn when the owner's program refreshes.
    began = _floored(family.created_at, timedelta(minutes=1))
    return Session(
        id=family.id,
        client_id=family.client_id,
        scope=format_scope(family.scope),
        created_at=began,
        used_at=max(began, _floored(used_at, timedelta(hours=1))),
        expires_at=_floored(family.expires_at, timedelta(minutes=1)),
        user_agent=family.user_agent,
        address=family.address,
        current=family.id == current,
    )


def _floored(at: datetime, unit: timedelta) -> datetime:
    return at - (at - datetime.min.replace(tzinfo=at.tzinfo)) % unit


@router.get("/users/me/sessions", responses=documented(401, 503))
async def sessions(caller: CurrentCaller, tokens: TokensDep, clock: ClockDep, response: Response) -> Sessions:
    """List the caller's sessions."""
    found, damaged = await anyio.to_thread.run_sync(tokens.families.active, caller.user.id, clock())
    for error in damaged:
        log.error("session left out of a list", reason=str(error))
    no_store(response)
    return Sessions(sessions=[_session(family, used_at, caller.session) for family, used_at in found])


@router.delete(
    "/users/me/sessions/{id}",
    status_code=204,
    response_class=Response,
    responses={**ENDED, **documented(401, 404, 503)},
)
async def end_session(
    session: Annotated[str, Path(alias="id")], caller: CurrentCaller, tokens: TokensDep, clock: ClockDep
) -> Response:
    """End one of the caller's sessions: its refresh token is no longer valid."""

    def end() -> bool:
        try:
            family_id = str(UUID(session))
        except ValueError:
            return False
        return tokens.families.end(family_id, clock(), user_id=caller.user.id)

    if not await anyio.to_thread.run_sync(end):
        raise NotFound("there is no such session, or it has ended")
    return Response(status_code=204, headers=NO_STORE)


@router.post(
    "/logout", status_code=204, response_class=Response, responses={**ENDED, **documented(400, 401, 503)}
)
async def logout(
    caller: CurrentCaller,
    tokens: TokensDep,
    clock: ClockDep,
    *,
    everywhere: Annotated[bool, Query(description="End the caller's other sessions, too.")] = False,
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
