"""Deletion of accounts, by their users or by operators: everything personal goes, the id stays taken.

Who may delete an account is decided by the callers: `own_account` verifies the password.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.freed_names import FreedNames
from issuer.accounts.roles import user_roles
from issuer.accounts.store import users
from issuer.accounts.user import User, VerifiedPassword, account_name
from issuer.audit.event import Event, EventAction, by_user
from issuer.audit.events import record
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent_store import consents
from issuer.database.database import Database
from issuer.mail.outbox import mails
from issuer.sessions.ended import end_browser_sessions_of
from issuer.sessions.store import browser_sessions
from issuer.throttling.account_limits import AccountLimitStore
from issuer.tokens.event_store import session_events
from issuer.tokens.refresh_rotation import families, refresh_tokens

PERSONAL = (consents, authorization_codes, families, browser_sessions, session_events, user_roles, mails)
"""The tables with rows of a user, in the order in which they are deleted, as by `client_deletion`."""


def delete_account(
    database: Database,
    user_id: str,
    password: VerifiedPassword | None,
    now: datetime,
    actor: str | None = None,
) -> bool:
    """Delete an account with all rows of it, and reserve its name; return False if it does not exist.

    With `password`, also return False if it is another by now, or the account is disabled. The account is locked
    first, as by everything that starts a session. Notices of logout stay until they are delivered, the event
    names the id and the `actor`, by default the user, and the id stays in `subjects`.
    """
    event = Event(now, actor or by_user(user_id), EventAction.USER_DELETED, user_id)
    names, limits = FreedNames(database), AccountLimitStore(database)
    names.prepare()
    with database.together(), database.write() as connection:
        username = _locked(connection, user_id, password)
        if username is None:
            return False
        end_browser_sessions_of(connection, user_id, None, now)
        # Tokens before their families, as `maintenance.pruning` locks them: in another order both could wait forever.
        connection.execute(delete(refresh_tokens).where(_of_families(user_id)))
        for table in PERSONAL:
            connection.execute(delete(table).where(table.c.user_id == user_id))
        connection.execute(delete(users).where(users.c.id == user_id))
        limits.forget(account_name(username))
        names.reserve(username, now)
        record(connection, event)
    return True


def count_personal(database: Database, user: User, now: datetime) -> dict[str, int]:
    """Return the number of rows that a deletion of the account would delete, by kind."""
    with database.snapshot() as connection:
        counted = {
            name: connection.scalar(select(func.count()).select_from(table).where(condition)) or 0
            for name, table, condition in _rows_of(user.id)
        }
    limits = AccountLimitStore(database).state(account_name(user.username), now)
    return {**counted, "known devices and networks": limits.known_devices + limits.known_networks}


def _rows_of(user_id: str) -> Iterator[tuple[str, Table, ColumnElement[bool]]]:
    yield "refresh tokens", refresh_tokens, _of_families(user_id)
    for table in PERSONAL:
        yield _KINDS[table.name], table, table.c.user_id == user_id


_KINDS = {
    "authorization_codes": "authorization codes",
    "consents": "consents",
    "families": "sessions of applications",
    "browser_sessions": "browser sessions",
    "session_events": "events of sessions",
    "user_roles": "roles",
    "mails": "mails that are not yet sent",
}


def _of_families(user_id: str) -> ColumnElement[bool]:
    theirs = select(families.c.id).where(families.c.user_id == user_id)
    return refresh_tokens.c.family_id.in_(theirs)


def _locked(connection: Connection, user_id: str, password: VerifiedPassword | None) -> str | None:
    """Lock an account and return its name; None if it does not exist or must not be deleted with that password."""
    if password and not lock_enabled(connection, user_id, password):
        return None
    found = select(users.c.username).where(users.c.id == user_id).with_for_update()
    username: str | None = connection.scalar(found)
    return username
