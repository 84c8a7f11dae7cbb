"""Locks an account for what a log-in stores: changes of the account wait, or come first."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from issuer.accounts.store import users
from issuer.accounts.user import VerifiedPassword

SIGNED_IN_INTERVAL = timedelta(minutes=5)
"""How often the last sign-in of a user is stored."""
_ENABLED = (
    select(users.c.password_hash, users.c.signed_in_at)
    .where(users.c.id == bindparam("user"), users.c.disabled_at.is_(None))
    .with_for_update()
)


def lock_enabled(
    connection: Connection,
    user_id: str,
    password: VerifiedPassword | None,
    signs_in: datetime | None = None,
) -> bool:
    """Lock an enabled account for what a log-in stores; return False for a disabled one.

    With `password`, also return False if its hash is no longer the user's; store the upgraded hash, if any. With
    `signs_in`, store that the user signed in then, at most each `SIGNED_IN_INTERVAL`.
    """
    account = connection.execute(_ENABLED, {"user": user_id}).one_or_none()
    if account is None or (password and account.password_hash != password.current_hash):
        return False
    values: dict[str, object] = {}
    if password and password.upgraded_hash:
        values["password_hash"] = password.upgraded_hash
    if signs_in and _is_long_ago(account.signed_in_at, signs_in):
        values["signed_in_at"] = signs_in
    if values:
        connection.execute(update(users).where(users.c.id == user_id).values(**values))
    return True


def _is_long_ago(stored: object, now: datetime) -> bool:
    # Also if it is long after `now`, by a clock that was wrong; SQLite keeps any type in any column.
    return not isinstance(stored, datetime) or abs(now - stored) >= SIGNED_IN_INTERVAL
