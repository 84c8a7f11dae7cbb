"""The table of authorization codes. The database enforces that each is redeemed once.

What a code is bound to is defined in `code`; the pushed request that it uses up is stored by `pushed`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from issuer.accounts.account_lock import lock_enabled
from issuer.authorize.code import AuthorizationCode
from issuer.authorize.pushed import use_pushed
from issuer.database.database import Database, metadata
from issuer.database.rows import checked
from issuer.database.types import Instant, Scope, Texts
from issuer.digests import digest
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS
from issuer.sessions.store import lock_active

authorization_codes = Table(
    "authorization_codes",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("redirect_uri", Text, nullable=False),
    Column("challenge", Text),
    Column("nonce", Text),
    Column("scope", Scope, nullable=False),
    Column("audience", Texts, nullable=False),
    Column("userinfo_claims", Texts, nullable=False),
    Column("browser_session", String(36), nullable=False),
    Column("session_expires_at", Instant, nullable=False),
    Column("sid", String(36), nullable=False),
    Column("auth_time", Instant, nullable=False),
    Column("acr", Text, nullable=False),
    Column("amr", Texts, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
    Column("family_id", String(36)),
)

# Built once: that takes longer than executing them.
_BY_DIGEST = select(authorization_codes).where(authorization_codes.c.digest == bindparam("wanted"))
_USE = (
    update(authorization_codes)
    .where(authorization_codes.c.digest == bindparam("wanted"), authorization_codes.c.used_at.is_(None))
    .values(used_at=bindparam("now"), family_id=bindparam("family"))
)


class CodeStore:
    """Stores authorization codes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        code: AuthorizationCode,
        pushed: bytes | None,
        now: datetime,
        is_consented: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Store a new code, and use up the pushed request that it answers.

        Return False and store nothing if that was used before, the browser session has ended, or the user does not
        consent any more: `is_consented` is asked while the account is locked, which withdrawing waits for.
        """
        with self._database.together(), self._database.write() as connection:
            if not _is_signed_in(connection, code, now) or not is_consented():
                return False
            if pushed is not None and not use_pushed(connection, pushed, now):
                return False
            connection.execute(insert(authorization_codes).values(vars(code)))
        return True

    def find(self, code: str) -> AuthorizationCode | None:
        """Return what is stored of a code, also of a used or expired one, or None; raise DatabaseDamaged."""
        with self._database.read() as connection:
            row = connection.execute(_BY_DIGEST, {"wanted": digest(code)}).one_or_none()
        return _code(row) if row else None

    @contextmanager
    def redeeming(self) -> Iterator[None]:
        """Store everything within the block together, or nothing if the block raises."""
        with self._database.together():
            yield

    def use(self, code: AuthorizationCode, now: datetime, family_id: str) -> bool:
        """Mark a code as used by a session; return False if it was before, or its browser session has ended."""
        with self._database.write() as connection:
            if not _is_signed_in(connection, code, now):
                return False
            used = {"wanted": code.digest, "now": now, "family": family_id}
            return connection.execute(_USE, used).rowcount > 0


def _is_signed_in(connection: Connection, code: AuthorizationCode, now: datetime) -> bool:
    # The account before the session, as everything that changes both: two transactions could wait for each other.
    return lock_enabled(connection, code.user_id, None) and lock_active(connection, code.browser_session, now)


def _code(row: Row[Any]) -> AuthorizationCode:
    return AuthorizationCode(**checked(authorization_codes, row))
