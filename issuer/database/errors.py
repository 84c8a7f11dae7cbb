"""Errors of the database, as one tree.

`checks` and `web.http.errors` report them.
"""

from issuer.fixes import Fix


class StoreError(Exception):
    """The database cannot be used; the message has the reason and the fix.

    StoreError
      DatabaseUnavailable  it does not answer
        Locked             another transaction holds a lock for too long; nothing was changed
      DatabaseNewer        it was migrated by a newer version of this program
      DatabaseForeign      it belongs to another program
      DatabaseDamaged      it contains data that this program cannot have written
      store.Moved          its data was moved to another database
    """


class DatabaseUnavailable(StoreError):
    """The database does not answer, or its URL is not valid."""


class Locked(DatabaseUnavailable):
    """Another transaction holds a lock for too long; nothing was changed."""


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
