"""Migrations of the schema by alembic: one file in `versions/` for each change, upgrades only.

A migration only adds, so that nodes of the previous version keep working. When migrations run, and under which lock,
is decided in `database.database`.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection


class UnknownRevision(Exception):
    """The database has a revision that is not in `versions/`."""


def config(connection: Connection | None = None) -> Config:
    """Return alembic's configuration for `versions/`."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration


def upgrade(connection: Connection) -> None:
    """Upgrade the schema to the newest revision, in the transaction of `connection`; raise UnknownRevision."""
    try:
        command.upgrade(config(connection), "head")
    except CommandError as error:
        raise UnknownRevision(str(error)) from error
