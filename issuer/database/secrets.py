"""Random secrets of the installation, stored in the database, so that all nodes have the same.

Each is created by the first process that needs it. `issuer move` copies them.
"""

import secrets as random
from datetime import datetime, timedelta

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

    def exists(self, name: str) -> bool:
        """Return whether the secret of that name has been created; nothing can be stored under it before."""
        with self._database.read() as connection:
            return connection.execute(_NAMED, {"wanted": name}).first() is not None

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


class MonthlySecrets:
    """A secret that is replaced each month (UTC): the one of the month before is accepted, too."""

    def __init__(self, store: SecretStore, name: str) -> None:
        self._store = store
        self._name = name
        self._known: dict[str, bytes] = {}

    def __call__(self, now: datetime) -> list[bytes]:
        """Return the accepted secrets; the last one, the newest, makes new signatures. Raise StoreError."""
        before = now.replace(day=1) - timedelta(days=1)
        names = [f"{self._name} {month:%Y-%m}" for month in (before, now)]
        self._known = {name: self._known.get(name) or self._store.secret(name) for name in names}
        return list(self._known.values())
