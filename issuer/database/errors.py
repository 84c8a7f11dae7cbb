"""Why the database cannot be used: one tree of errors for everything in this folder.

Each is raised where it is found; `checks` and `web.http.errors` report them.
"""

from issuer.fixes import Fix


class StoreError(Exception):
    """The database cannot be used; says why and what to do.

    StoreError
      DatabaseUnavailable  it does not answer
        Locked             others hold what is to be changed, and it was not
      DatabaseNewer        it was migrated by a newer version of this program
      DatabaseForeign      it is another program's
      DatabaseDamaged      what is in it cannot be what this program wrote
      tombstone.Moved      its key ring was moved to another database
    """


class DatabaseUnavailable(StoreError):
    """The database does not answer, or the URL is not one of a database."""


class Locked(DatabaseUnavailable):
    """Others hold what is to be changed for too long; nothing was changed."""


class DatabaseNewer(StoreError):
    """The database was migrated by a newer version of this program."""


class DatabaseForeign(StoreError):
    """The database holds what another program made, and nothing was changed.

    `held` says what it holds, `fix` names another one.
    """

    def __init__(self, message: str, held: str, fix: Fix) -> None:
        super().__init__(f"{message}: {fix}")
        self.message = message
        self.held = held
        self.fix = fix


class DatabaseDamaged(StoreError):
    """What is in the database cannot be what this program wrote."""
