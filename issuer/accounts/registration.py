"""Registration: users make their own accounts, unless the operator closed it, within limits for each address.

Which names and passwords are acceptable is decided in `user`.
"""

import uuid
from datetime import datetime

from issuer.accounts.passwords import COMMON, Passwords
from issuer.accounts.profile import NO_PROFILE, Profile
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, account_name, require_password, require_username
from issuer.audit.event import Event, EventAction, by_user
from issuer.oauth import AccessDenied, UsernameTaken, format_scope
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin


def register_user(
    accounts: AccountStore,
    passwords: Passwords,
    username: str,
    password: str,
    now: datetime,
    scope: frozenset[str] = frozenset(),
    profile: Profile = NO_PROFILE,
    actor: str | None = None,
) -> User:
    """Make an account and return it; raise InvalidRequest or UsernameTaken.

    The event names the `actor`; by default that is the user.
    """
    name = require_username(username)
    chosen = require_password(password, name, COMMON)
    user = User(str(uuid.uuid4()), name, passwords.hash(chosen), scope, now, updated_at=now, **vars(profile))
    detail = format_scope(scope) or None
    accounts.add(
        user, Event(now, actor or by_user(user.id), EventAction.USER_CREATED, user.id, detail=detail)
    )
    return user


class Registration:
    """Makes accounts on request."""

    def __init__(self, accounts: AccountStore, passwords: Passwords, guard: Guard, *, is_open: bool) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._guard = guard
        self.is_open = is_open

    def require_open(self) -> None:
        """Raise AccessDenied if registration is closed."""
        if not self.is_open:
            raise AccessDenied("registration is closed at this issuer; ask the operator for an account")

    def admit(self, username: str, password: str, origin: Origin, now: datetime) -> None:
        """Count a registration and check it as `register` does, before the password is hashed."""
        self.require_open()
        self._guard.register(origin, now)
        require_password(password, require_username(username), COMMON)
        if self._accounts.by_username(username) is not None:
            raise UsernameTaken
        self._accounts.freed_names.require_free([username], now)

    def make(self, username: str, password: str, origin: Origin, now: datetime) -> User:
        """Make an account after `admit`; raise UsernameTaken if another request took the name meanwhile."""
        user = register_user(self._accounts, self._passwords, username, password, now)
        self._guard.remember_device(account_name(username), origin, now)
        return user

    def register(self, username: str, password: str, origin: Origin, now: datetime) -> User:
        """Make an account without any scope; raise AccessDenied, TooManyAttempts, or what `register_user` raises."""
        self.admit(username, password, origin, now)
        return self.make(username, password, origin, now)
