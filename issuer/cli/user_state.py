"""`issuer users show`, `unlock` and `sessions`: what is active of one user, and ending it."""

from typing import Annotated

import typer

from issuer.accounts.user import User
from issuer.administration.user_overview import UserOverview, UserSession, end_session, overview, sessions_of
from issuer.administration.users import unlock_user
from issuer.audit.event import EventAction
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.cli.user_view import Username, find_user, user_document, user_row
from issuer.clock import instant
from issuer.errors import NothingToDo
from issuer.oauth import format_scope
from issuer.services import Issuer
from issuer.throttling.account_limits import LimitState

BROWSER = "browser"
SESSION_HIDDEN = ("scope", "expires_at", "user_agent")
"""Columns of JSON that tables of sessions do not have."""


def show_one(username: Username, *, as_json: Json = False) -> None:
    """Show a user: scopes, roles, last sign-in, sessions, known devices, and limits on guessing."""
    with opened(Access.READ) as issuer:
        user, accounts = find_user(issuer, username), issuer.accounts
        seen = overview(issuer.sessions.store, issuer.tokens.families, accounts.limits, user, issuer.clock())
        show(_document(seen), as_json=as_json, message=_lines(seen), damaged=seen.damaged)


def unlock(username: Username, *, as_json: Json = False) -> None:
    """Clear the limits on guessing of a user: the next log-in need not wait. Limits of addresses stay."""
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.LIMITS_CLEARED, user_id=user.id)
        if not unlock_user(issuer.database, user, event):
            raise NothingToDo(f"no failed log-ins of {user.username} are counted")
        show(
            {"id": user.id, "username": user.username},
            as_json=as_json,
            message=f"{user.username}: the limits are cleared",
        )


def sessions(
    username: Username,
    *,
    end: Annotated[str | None, typer.Option(metavar="ID", help="End the session with this id.")] = None,
    end_all: Annotated[bool, typer.Option("--end-all", help="End all sessions.")] = False,
    as_json: Json = False,
) -> None:
    """List the sessions of a user, or end them; their access tokens stay valid until they expire."""
    if end is not None and end_all:
        raise typer.BadParameter("give --end or --end-all")
    with opened(Access.CHANGE if end_all or end is not None else Access.READ) as issuer:
        user = find_user(issuer, username)
        message = ""
        if end is not None:
            message = _end(issuer, user, end)
        elif end_all:
            ended = issuer.tokens.families.end_all(issuer.clock(), user.id, actor=issuer.actor)
            if not ended:
                raise NothingToDo(f"{user.username} has no sessions")
            message = f"{user.username}: {ended} session{'s' * (ended != 1)} ended"
        found, damaged = sessions_of(issuer.sessions.store, issuer.tokens.families, user, issuer.clock())
        show(
            {"id": user.id, "username": user.username, "sessions": list(map(_session, found))},
            as_json=as_json,
            rows=list(map(_session, found)),
            hidden=SESSION_HIDDEN,
            message=message or ("" if found else f"{user.username} has no sessions"),
            damaged=damaged,
        )


def _end(issuer: Issuer, user: User, session: str) -> str:
    if not end_session(issuer.tokens.families, user, session, issuer.clock(), issuer.actor):
        raise CommandError(f"{user.username} has no session {session!r}; see: issuer users sessions NAME")
    return f"{user.username}: the session {session} has ended"


def _document(seen: UserOverview) -> dict[str, object]:
    limits = seen.limits
    return {
        **user_document(seen.user),
        "sessions": list(map(_session, seen.sessions)),
        "known_devices": limits.known_devices,
        "known_networks": limits.known_networks,
        "limits": {"account": _limit(limits.account), "device": _limit(limits.device)},
    }


def _limit(state: LimitState) -> dict[str, object]:
    return {
        "failures": state.failures,
        "limited_until": instant(state.limited_until) if state.limited_until else None,
    }


def _lines(seen: UserOverview) -> str:
    """Return what people see: a line for each value that there is."""
    user, limits = seen.user, seen.limits
    browsers = sum(each.client_id is None for each in seen.sessions)
    networks = limits.known_networks
    members = {
        **{name: value for name, value in user_row(user).items() if name != "email_verified"},
        "email": f"{user.email}{'' if user.email_verified else ', not verified'}" if user.email else None,
        "state": f"disabled since {instant(user.disabled_at)}" if user.disabled_at else "enabled",
        "disabled_at": None,
        "sessions": f"{browsers} of browsers, {len(seen.sessions) - browsers} of applications",
        "known devices": f"{limits.known_devices}, from {networks} network{'s' * (networks != 1)}",
        "failed log-ins": f"{_words(limits.account)} on other devices, {_words(limits.device)} on a known one",
    }
    return "\n".join(f"{name.replace('_', ' '):16}{value}" for name, value in members.items() if value)


def _words(state: LimitState) -> str:
    if state.limited_until is None:
        return str(state.failures)
    return f"{state.failures} (refused until {instant(state.limited_until)})"


def _session(session: UserSession) -> dict[str, str | int | None]:
    return {
        "id": session.id,
        "of": session.client_id or BROWSER,
        "scope": format_scope(session.scope),
        "created_at": instant(session.created_at),
        "used_at": instant(session.used_at),
        "expires_at": instant(session.expires_at),
        "address": session.address,
        "user_agent": session.user_agent,
    }
