"""Migrations of the schema, by alembic: one file in `versions/` a change, forward only.

When they run, and under which lock, is defined in `database.database`.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection


class UnknownRevision(Exception):
    """The database is at a revision that no file here describes."""


def config(connection: Connection | None = None) -> Config:
    """Return alembic's configuration for the files here."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, in the transaction of `connection`; raise UnknownRevision."""
    try:
        command.upgrade(config(connection), "head")
    except CommandError as error:
        raise UnknownRevision(str(error)) from error
