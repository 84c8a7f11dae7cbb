"""Private keys as encrypted PEM text in the database, for issuers of several nodes.

How the text is encrypted and opened is defined in `pem`.
"""

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Boolean, Column, LargeBinary, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.database.database import Database, metadata
from issuer.errors import KeyUnavailable

private_keys = Table(
    "private_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("pem", LargeBinary, nullable=False),
    Column("kept", Boolean, nullable=False),
)


class PemDatabase:
    """Stores PEM texts by kid."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, kid: str, pem: bytes) -> None:
        """Store `pem`, pending."""
        pending = delete(private_keys).where(private_keys.c.kid == kid, ~private_keys.c.kept)
        try:
            with self._database.write() as connection:
                connection.execute(pending)
                connection.execute(insert(private_keys).values(kid=kid, pem=pem, kept=False))
        except IntegrityError as error:
            raise KeyUnavailable(f"the private key {kid} is in the database already") from error

    def rewrite(self, kid: str, pem: bytes) -> None:
        """Replace the text of `kid`."""
        with self._database.write() as connection:
            connection.execute(update(private_keys).where(private_keys.c.kid == kid).values(pem=pem))

    def keep(self, kid: str) -> None:
        """Make a pending text permanent."""
        with self._database.write() as connection:
            connection.execute(update(private_keys).where(private_keys.c.kid == kid).values(kept=True))

    def read(self, kid: str) -> bytes:
        """Return the text of `kid`, pending or permanent; raise KeyUnavailable."""
        with self._database.read() as connection:
            pem = connection.scalar(select(private_keys.c.pem).where(private_keys.c.kid == kid))
        if pem is None:
            raise KeyUnavailable(
                f"the private key {kid} is missing in the database: restore the backup; the issuer never"
                " makes another key in its place"
            )
        if not isinstance(pem, bytes | memoryview):  # SQLite keeps any type in any column
            raise KeyUnavailable(f"the private key {kid} in the database is damaged: restore the backup")
        return bytes(pem)

    def remove(self, kid: str) -> bool:
        """Remove the text of `kid`; return whether there was one."""
        with self._database.write() as connection:
            return connection.execute(delete(private_keys).where(private_keys.c.kid == kid)).rowcount > 0

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent texts."""
        return self._kids(kept=True)

    def pending(self) -> frozenset[str]:
        """Return the kids of all pending texts."""
        return self._kids(kept=False)

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the kids of texts that are none of `kids`."""
        return sorted((self.kept() | self.pending()) - set(kids))

    def read_checkpoints(self) -> Sequence[bytes]:
        """Return nothing: a checkpoint in the database would be restored together with the ring."""
        return ()

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Do nothing."""

    def _kids(self, *, kept: bool) -> frozenset[str]:
        with self._database.read() as connection:
            kids = connection.scalars(select(private_keys.c.kid).where(private_keys.c.kept == kept))
            return frozenset(map(str, kids))  # SQLite keeps any type in any column
