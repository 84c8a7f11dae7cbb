"""What operators see of one user: sessions, the last sign-in, known devices, and limits on guessing."""

from dataclasses import dataclass
from datetime import datetime

from issuer.accounts.user import User, account_name
from issuer.database.errors import DatabaseDamaged
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.account_limits import AccountLimits, AccountLimitStore
from issuer.tokens.family_store import FamilyStore


@dataclass(frozen=True)
class UserSession:
    """An active session: of a browser at the issuer, or of an application with refresh tokens."""

    id: str
    client_id: str | None
    """None: a browser."""
    scope: frozenset[str]
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    address: str
    user_agent: str


@dataclass(frozen=True)
class UserOverview:
    """A user with what is active."""

    user: User
    sessions: list[UserSession]
    limits: AccountLimits
    damaged: list[DatabaseDamaged]


def overview(
    browsers: BrowserSessionStore, families: FamilyStore, limits: AccountLimitStore, user: User, now: datetime
) -> UserOverview:
    """Return what is known of a user."""
    found, damaged = sessions_of(browsers, families, user, now)
    return UserOverview(user, found, limits.state(account_name(user.username), now), damaged)


def sessions_of(
    browsers: BrowserSessionStore, families: FamilyStore, user: User, now: datetime
) -> tuple[list[UserSession], list[DatabaseDamaged]]:
    """Return the active sessions, those of browsers first, and what is wrong with those that cannot be read."""
    of_browsers, damaged = browsers.active(user.id, now)
    of_clients, more = families.active(user.id, now)
    found = [
        UserSession(
            each.id,
            None,
            frozenset(),
            each.created_at,
            each.seen_at,
            each.expires_at,
            each.address,
            each.user_agent,
        )
        for each in of_browsers
    ]
    found += [
        UserSession(
            each.id,
            each.client_id,
            each.scope,
            each.created_at,
            used_at,
            each.expires_at,
            each.address,
            each.user_agent,
        )
        for each, used_at in of_clients
    ]
    return found, [*damaged, *more]


def end_session(
    families: FamilyStore, user: User, session_id: str, now: datetime, actor: str | None = None
) -> bool:
    """End a session of a user, with those that end with it; return False if there is no such active one.

    The event names the `actor`; by default that is the user.
    """
    return families.end(session_id, now, user.id, actor=actor) or families.end_browser_session(
        session_id, now, user.id, actor=actor
    )
