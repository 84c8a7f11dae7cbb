"""Random secrets of one installation, kept in its database: all nodes have the same, another installation others.

A database that is moved takes them along. Each is made by the first process that needs it.
"""

import secrets as random

from sqlalchemy import Column, LargeBinary, String, Table, select

from issuer.store.database import Database, metadata
from issuer.store.rows import upserting

SECRET_BYTES = 32

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
)


class SecretStore:
    """Keeps the secrets, each under a name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def secret(self, name: str) -> bytes:
        """Return the secret of that name, made now if there is none; raise DatabaseUnavailable."""
        found = self._find(name)
        if found is None:
            with self._database.write() as connection:
                row = upserting(connection, secrets).values(
                    name=name, secret=random.token_bytes(SECRET_BYTES)
                )
                connection.execute(row.on_conflict_do_nothing())  # another process may have been faster
            found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def _find(self, name: str) -> bytes | None:
        with self._database.read() as connection:
            return connection.scalar(select(secrets.c.secret).where(secrets.c.name == name))
