"""Random secrets of one installation, kept in its database: all nodes have the same, another installation others.

A database that is moved takes them along. Each is made by the first process that needs it.
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
    """Keeps the secrets, each under a name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def secret(self, name: str) -> bytes:
        """Return the secret of that name, made now if there is none; raise StoreError."""
        with self._database.read() as connection:
            row = connection.execute(_NAMED, {"wanted": name}).one_or_none()
        if row is None:
            made = {"name": name, "secret": random.token_bytes(SECRET_BYTES)}
            with self._database.write() as connection:  # another process may have been faster
                connection.execute(upserting(connection, secrets).values(made).on_conflict_do_nothing())
                row = connection.execute(_NAMED, {"wanted": name}).one()
        secret: bytes = checked(secrets, row)["secret"]
        return secret
