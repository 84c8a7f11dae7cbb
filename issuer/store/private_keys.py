"""Private keys as encrypted PEM text in the database, for issuers of several nodes.

How the text is made and opened is told in `signing.pem`; this is its other vault.
"""

from sqlalchemy import Boolean, Column, LargeBinary, String, Table, delete, insert, select, true, update

from issuer.keyring import KeyUnavailable
from issuer.store.database import Database, metadata

private_keys = Table(
    "private_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("pem", LargeBinary, nullable=False),
    Column("kept", Boolean, nullable=False),
)


class PrivateKeyStore:
    """Keeps PEM texts by kid."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, kid: str, pem: bytes) -> None:
        """Keep `pem`, pending."""
        with self._database.write() as connection:
            connection.execute(insert(private_keys).values(kid=kid, pem=pem, kept=False))

    def keep(self, kid: str) -> None:
        """Make a pending text permanent."""
        with self._database.write() as connection:
            connection.execute(update(private_keys).where(private_keys.c.kid == kid).values(kept=True))

    def read(self, kid: str) -> bytes:
        """Return the text of `kid`, pending or kept; raise KeyUnavailable."""
        with self._database.read() as connection:
            pem = connection.scalar(select(private_keys.c.pem).where(private_keys.c.kid == kid))
        if pem is None:
            raise KeyUnavailable(
                f"the private key {kid} is missing in the database: restore the backup; the issuer never"
                " makes another in its place"
            )
        return bytes(pem)

    def remove(self, kid: str) -> bool:
        """Remove the text of `kid`; tell whether there was one."""
        with self._database.write() as connection:
            return connection.execute(delete(private_keys).where(private_keys.c.kid == kid)).rowcount > 0

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent texts."""
        with self._database.read() as connection:
            return frozenset(
                connection.scalars(select(private_keys.c.kid).where(private_keys.c.kept == true()))
            )
