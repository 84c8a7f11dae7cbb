"""Public keys that have left the key ring: kept for a while, to verify old id_tokens that come back as hints.

They are never published, and no token that is valid is signed by one. When a key retires is decided in `ring`; old
rows are deleted by `maintenance.pruning`.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, Connection, String, Table, Text, delete, select

from issuer.database.database import Database, metadata
from issuer.database.rows import checked, damaged, upserting
from issuer.database.types import Instant
from issuer.keyring.ring import KeyRing
from issuer.signing.public_key import PublicKey, is_kid

RETIRED_KEPT: Final = timedelta(days=396)
"""13 months: who signs in once a year may still sign out with the id_token of that time."""

retired_public_keys = Table(
    "retired_public_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("alg", String(32), nullable=False),
    Column("jwk", Text, nullable=False),
    Column("retired_at", Instant, nullable=False, index=True),
)


class RetiredKeys:
    """Finds retired keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, kid: str) -> PublicKey:
        """Return a retired key; raise KeyError if there is none, DatabaseDamaged if it is not the key of that kid."""
        if not is_kid(kid):  # of a header that nobody has verified: PostgreSQL refuses some characters
            raise KeyError(kid)
        found = select(retired_public_keys).where(retired_public_keys.c.kid == kid)
        with self._database.read() as connection:
            row = connection.execute(found).one_or_none()
        if row is None:
            raise KeyError(kid)
        values = checked(retired_public_keys, row)
        try:
            key = PublicKey(values["kid"], values["alg"], json.loads(values["jwk"]))
            is_sound = key.integrity_error() is None
        except (ValueError, TypeError, AttributeError, RecursionError):
            is_sound = False
        if not is_sound:
            raise damaged(retired_public_keys, kid)
        return key


def retire(connection: Connection, before: KeyRing | None, after: KeyRing) -> None:
    """Keep the public keys that `after` no longer holds, and forget those that it holds again; within its save.

    A ring never drops a revoked key, so none is kept. A ring that was restored may hold retired keys again; they may
    be revoked then.
    """
    held = {key.kid for key in after.keys}
    dropped = [key for key in before.keys if key.kid not in held and key.revoked_at is None] if before else []
    connection.execute(delete(retired_public_keys).where(retired_public_keys.c.kid.in_(held)))
    if rows := list(_rows(dropped, after.changed_at)):
        connection.execute(upserting(connection, retired_public_keys).on_conflict_do_nothing(), rows)


def _rows(keys: Iterable[PublicKey], now: datetime) -> Iterable[dict[str, object]]:
    for key in keys:
        yield {"kid": key.kid, "alg": key.alg, "jwk": json.dumps(dict(key.jwk)), "retired_at": now}
