"""Moves of an issuer to another database, and what both contain."""

from pydantic import SecretStr
from sqlalchemy import inspect, select

from issuer.database.database import Database, metadata
from issuer.maintenance.copy import count_rows
from issuer.maintenance.move import Move, Place
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.signers import pem_storage_for, signer_for
from issuer.throttling.origin import Origin

ORIGIN = Origin("a test", "198.18.0.1")


def quiet(_table: str, _rows: int) -> None:
    """Draw no progress."""


def moving(issuer: Issuer, new: Database) -> Move:
    settings = issuer.settings
    after = settings.model_copy(update={"keys": "database"})
    old = issuer.database
    return Move(
        Place(old, signer_for(settings, old)),
        Place(new, signer_for(after, new)),
        pem_storage_for(settings, old),
        issuer.policy,
        issuer.clock,
        "an operator",
    )


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return all that is in a database, table by table."""
    with database.snapshot() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }


def is_empty(database: Database) -> bool:
    """Return whether a database holds nothing, perhaps not even tables."""
    if database.file and not database.file.exists():
        return True
    with database.snapshot() as connection:
        return not inspect(connection).get_table_names() or not any(count_rows(connection).values())


def settings_after(settings: Settings, new: Database) -> Settings:
    return settings.model_copy(
        update={
            "database_url": SecretStr(new._url.render_as_string(hide_password=False)),
            "keys": "database",
        }
    )
