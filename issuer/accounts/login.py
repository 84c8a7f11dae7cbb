"""Log-in by password: limits on guessing, verification of the hash, and its upgrade if the scheme is outdated.

The caller decides what a log-in starts: for a token that is `grants.password`. Hashing is done by `passwords`, on the
threads of `hashing_pool`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from issuer.accounts.passwords import Passwords, WrongPassword
from issuer.accounts.store import AccountStore
from issuer.accounts.user import VERIFIED_MOST_BYTES, User, VerifiedPassword, account_name, hashable
from issuer.audit.events import EventStore
from issuer.oauth import LoginFailed
from issuer.throttling.guard import Guard
from issuer.throttling.limits import networks_of
from issuer.throttling.origin import Origin

T = TypeVar("T")

log = structlog.get_logger("issuer.sessions")


class AccountChanged(LoginFailed):
    """The account was disabled, or its password changed, after the user was authenticated."""


@dataclass(frozen=True)
class AuthenticatedUser:
    """A user who may log in and gave the right password."""

    user: User
    password: VerifiedPassword


def hashing_queue(username: str, origin: Origin) -> tuple[str, ...]:
    """Return the place of a log-in in the queue of `HashingPool`: its networks, then its account."""
    return *networks_of(origin.address), account_name(username)


class PasswordLogin:
    """Authenticates users by password."""

    def __init__(
        self,
        accounts: AccountStore,
        passwords: Passwords,
        guard: Guard,
        events: EventStore,
        on_new_device: Callable[[User, Origin, datetime], None] = lambda _user, _origin, _now: None,
    ) -> None:
        """Take what is called after a log-in from a device that was not known; it raises nothing."""
        self._accounts = accounts
        self._passwords = passwords
        self._guard = guard
        self._events = events
        self._on_new_device = on_new_device

    def check(self, username: str, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts for an attempt that any password would fail; count nothing."""
        self._guard.check(account_name(username), origin, now)

    def authenticate(
        self,
        username: str,
        password: str,
        origin: Origin,
        now: datetime,
        then: Callable[[AuthenticatedUser], T],
    ) -> T:
        """Verify a password and return what `then` returns for its user; raise LoginFailed or TooManyAttempts.

        `then` starts what the log-in is for. A LoginFailed that it raises counts as a failed attempt. After
        AccountChanged the password is verified once more: another log-in may have upgraded the hash.
        """
        logged_in: list[User] = []

        def tried(*, may_succeed: bool) -> T:
            authenticated = self._authenticated(username, password, may_succeed=may_succeed)
            result = then(authenticated)
            logged_in.append(authenticated.user)
            return result

        def on_new_device() -> None:
            self._on_new_device(logged_in[0], origin, now)

        with self._guard.log_in(account_name(username), origin, now, on_new_device) as may_succeed:
            try:
                try:
                    return tried(may_succeed=may_succeed)
                except AccountChanged:
                    return tried(may_succeed=may_succeed)
            except LoginFailed:
                self._record_failure(username, now)
                raise

    def _record_failure(self, username: str, now: datetime) -> None:
        """Count a failure for operators; any error is logged and not raised: the guard must count it in any case."""
        try:
            user = self._accounts.by_username(username) if hashable(username) else None
            self._events.sign_in_failed(user.id if user else None, account_name(username), now)
        except Exception:
            log.exception("cannot record a failed sign-in")

    def _authenticated(self, username: str, password: str, *, may_succeed: bool) -> AuthenticatedUser:
        """Return the user of a right password; raise the same LoginFailed in all other cases, after the same work."""
        user = self._accounts.by_username(username) if hashable(username) else None
        decoy = self._accounts.decoy_hash(username if hashable(username) else "")
        own = user.password_hash if user else None
        # Nothing may match for a user who must not log in: a match may cause a second hash, whose time shows.
        admitted = user if user and user.disabled_at is None and may_succeed else None
        if not hashable(password, VERIFIED_MOST_BYTES):  # no account can have it
            admitted, password = None, "x"
        try:
            # Verify against the account's own hash in any case: the time of a decoy would show that it exists.
            upgraded = self._passwords.verify(password, own if admitted else None, own or decoy)
        except WrongPassword:
            raise LoginFailed from None
        if admitted is None:
            raise LoginFailed
        return AuthenticatedUser(admitted, VerifiedPassword(admitted.password_hash, upgraded))
