"""Random secrets of the installation, stored in the database, so that all nodes have the same.

Each is created by the first process that needs it. `issuer move` copies them.
"""

import secrets as random

from sqlalchemy import Column, LargeBinary, String, Table, bindparam, select

from issuer.database.database import Database, metadata
from issuer.database.rows import checked, upserting

SECRET_BYTES = 32

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
)
_NAMED = select(secrets).where(secrets.c.name == bindparam("wanted"))


class SecretStore:
    """Stores secrets by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def secret(self, name: str) -> bytes:
        """Return the secret of that name, which is created if it does not exist; raise StoreError."""
        with self._database.read() as connection:
            row = connection.execute(_NAMED, {"wanted": name}).one_or_none()
        if row is None:
            made = {"name": name, "secret": random.token_bytes(SECRET_BYTES)}
            with self._database.write() as connection:  # another process may insert it first
                connection.execute(upserting(connection, secrets).values(made).on_conflict_do_nothing())
                row = connection.execute(_NAMED, {"wanted": name}).one()
        secret: bytes = checked(secrets, row)["secret"]
        return secret
