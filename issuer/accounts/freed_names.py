"""The names of deleted accounts, which nobody may take for a while: whoever had one could be impersonated by it.

Names are personal, so that only digests of them are stored, under a secret of the installation.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import Column, LargeBinary, Table, bindparam, select

from issuer.accounts.user import canonical_username
from issuer.clock import instant
from issuer.database.database import Database, metadata
from issuer.database.rows import batched, checked, upserting
from issuer.database.secrets import SecretStore
from issuer.database.types import Instant
from issuer.oauth import UsernameTaken

NAME_RESERVED = timedelta(days=30)
"""How long the name of a deleted account is reserved."""
SECRET = "names"  # noqa: S105 - its name

freed_names = Table(
    "freed_names",
    metadata,
    Column("name", LargeBinary, primary_key=True),
    Column("free_from", Instant, nullable=False, index=True),
)
# Built once: that takes longer than executing it.
_RESERVED = select(freed_names).where(
    freed_names.c.name.in_(bindparam("digests", expanding=True)), freed_names.c.free_from > bindparam("now")
)


class UsernameReserved(UsernameTaken):
    """The name was that of an account that was deleted lately; the public gets the response for a taken name."""

    def __init__(self, username: str, free_from: datetime) -> None:
        super().__init__()
        self.reason = (
            f"{username} was the name of a deleted account; it can be taken from {instant(free_from)} on"
        )
        """For operators."""


class FreedNames:
    """Reserves names of deleted accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def _secret(self) -> bytes:
        return SecretStore(self._database).secret(SECRET)

    def _has_secret(self) -> bool:
        """Whether the secret exists: without it no name was ever reserved."""
        return "_secret" in vars(self) or SecretStore(self._database).exists(SECRET)

    def prepare(self) -> None:
        """Read the secret, and make it if there is none: not within a transaction that others wait for."""
        _ = self._secret

    def _digest(self, username: str) -> bytes:
        return hmac.digest(self._secret, canonical_username(username).encode(), "sha256")

    def reserve(self, username: str, now: datetime) -> None:
        """Reserve a name, in any spelling, for `NAME_RESERVED`."""
        row = {"name": self._digest(username), "free_from": now + NAME_RESERVED}
        with self._database.write() as connection:
            added = upserting(connection, freed_names).values(row)
            connection.execute(added.on_conflict_do_update(index_elements=["name"], set_=row))

    def reserved(self, usernames: Sequence[str], now: datetime) -> dict[str, datetime]:
        """Return which of the names are reserved at `now`, each with when it is free; nothing is written."""
        found = dict[str, datetime]()
        if not self._has_secret():
            return found
        for some in batched(usernames):
            by_digest = {self._digest(name): name for name in some}
            with self._database.read() as connection:
                rows = connection.execute(_RESERVED, {"digests": list(by_digest), "now": now}).all()
            for row in rows:
                values = checked(freed_names, row)
                found[by_digest[values["name"]]] = values["free_from"]
        return found

    def require_free(self, usernames: Sequence[str], now: datetime) -> None:
        """Raise UsernameReserved if one of the names is reserved."""
        for username, free_from in self.reserved(usernames, now).items():
            raise UsernameReserved(username, free_from)
