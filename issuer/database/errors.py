"""Errors of the database, as one tree, and which of them an exception of a driver is.

`checks` and `web.http.errors` report them.
"""

import sqlite3
from typing import Final

from issuer.fixes import Fix

LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, appendix A
CORRUPTED: Final = frozenset({"XX001", "XX002"})
UNDECODABLE: Final = "Could not decode to UTF-8"
"""A message of Python's sqlite3, which has no code for this error."""


class StoreError(Exception):
    """The database cannot be used; the message has the reason and the fix.

    StoreError
      DatabaseUnavailable  it does not answer
        Locked             another transaction holds a lock for too long; nothing was changed
        WrongEncoding      it is not in UTF-8
      DatabaseNewer        it was migrated by a newer version of this program
      DatabaseForeign      it belongs to another program
      DatabaseDamaged      it contains data that this program cannot have written
      keyring.tombstone.Moved  its data was moved to another database
    """


class DatabaseUnavailable(StoreError):
    """The database does not answer, or its URL is not valid."""


class Locked(DatabaseUnavailable):
    """Another transaction holds a lock for too long; nothing was changed."""


class WrongEncoding(DatabaseUnavailable):
    """The database is not in UTF-8."""


class DatabaseNewer(StoreError):
    """The database was migrated by a newer version of this program."""


class DatabaseForeign(StoreError):
    """The database contains tables of another program; nothing was changed.

    `held` names the tables; `fix` sets another database.
    """

    def __init__(self, message: str, held: str, fix: Fix) -> None:
        super().__init__(f"{message}: {fix}")
        self.message = message
        self.held = held
        self.fix = fix


class DatabaseDamaged(StoreError):
    """The database contains data that this program cannot have written."""


def kind_of(cause: BaseException | None) -> type[StoreError]:
    """Return the error class for an exception of the driver."""
    state = getattr(cause, "sqlstate", None)
    code = getattr(cause, "sqlite_errorcode", None) or 0
    if state == LOCK_NOT_AVAILABLE:
        return Locked
    if state in CORRUPTED or code & 0xFF == sqlite3.SQLITE_CORRUPT or UNDECODABLE in str(cause):
        return DatabaseDamaged
    return DatabaseUnavailable


def reason_of(error: BaseException) -> str:
    """Return the driver's message in one line, with a fix if one is known."""
    message = " ".join(str(error).split())
    if UNDECODABLE in message:
        message, *_ = message.partition(" with text ")  # the value, which may be personal
    if "unsupported startup parameter" in message:
        message += "; PgBouncer needs ignore_startup_parameters = options, see docs/scaling.md"
    return message
