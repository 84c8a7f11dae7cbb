"""What operators do to users: change a password or profile, disable, enable, unlock, each with the caller's events.

Which passwords are accepted is decided in `accounts`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from issuer.accounts.passwords import COMMON, Passwords
from issuer.accounts.profile import require_profile
from issuer.accounts.store import AccountStore, profile_columns
from issuer.accounts.user import User, account_name, require_password
from issuer.administration.user_mails import UserMails
from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.database.database import Database
from issuer.oauth import InvalidRequest
from issuer.throttling.account_limits import AccountLimitStore
from issuer.tokens.family_store import FamilyStore


class NoSuchUser(InvalidRequest):
    """The account was deleted meanwhile."""

    def __init__(self, username: str) -> None:
        super().__init__(f"{username} was deleted meanwhile")


def set_password(
    families: FamilyStore, passwords: Passwords, user: User, password: str, now: datetime, *events: Event
) -> None:
    """Change a password and end all sessions of the user; raise InvalidRequest for a password that is refused."""
    chosen = require_password(password, user.username, COMMON)
    families.set_password_hash(user.id, passwords.hash(chosen), now, events=events)


def disable_user(families: FamilyStore, user: User, now: datetime, *events: Event) -> User:
    """Disable a user: log-in and refresh are refused from now on; access tokens stay valid until they expire."""
    families.disable(user.id, now, *events)
    return replace(user, disabled_at=now)


def enable_user(accounts: AccountStore, user: User, *events: Event) -> User:
    """Enable a disabled user; sessions that were ended stay ended."""
    accounts.enable(user.id, *events)
    return replace(user, disabled_at=None)


def change_profile(
    accounts: AccountStore,
    mails: UserMails,
    user: User,
    now: datetime,
    event: Event | None = None,
    *,
    name: str | None = None,
    email: str | None = None,
    email_verified: bool | None = None,
) -> User:
    """Change what is not None; an empty text removes. Raise InvalidRequest for a value that is not accepted.

    Another address is not verified, unless `email_verified` says so, and the one before gets a notice.
    """

    def changed(stored: User) -> Mapping[str, object]:
        kept = stored.email_verified and email in {None, stored.email}
        profile = require_profile(
            stored.name if name is None else name,
            stored.email if email is None else email,
            email_verified=kept if email_verified is None else email_verified,
        )
        if profile.email != stored.email:
            mails.address_changed(stored, now)
        return profile_columns(profile, now)

    return change_user(accounts, user, changed, (lambda _before, _after: event) if event else None)


def change_user(
    accounts: AccountStore,
    user: User,
    change: Callable[[User], Mapping[str, object]],
    event: Callable[[User, User], Event] | None,
) -> User:
    """Return the user after a change, as by `AccountStore.change`; raise NoSuchUser."""
    found = accounts.change(user.id, change, event)
    if found is None:
        raise NoSuchUser(user.username)
    return found


def unlock_user(database: Database, user: User, *events: Event) -> int:
    """Clear the limits on guessing of a user, and return how many counts there were; without any, record nothing."""
    with database.together(), database.write() as connection:
        cleared = AccountLimitStore(database).clear(account_name(user.username))
        if cleared:
            record(connection, *events)
    return cleared
