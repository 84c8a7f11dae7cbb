"""Refresh-token families, and what ends them; single use is enforced here, by the database.

What presenting a token leads to is decided in `tokens`.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    func,
    insert,
    join,
    select,
    update,
)

from issuer.oauth import format_scope, parse_scope
from issuer.store.accounts import users
from issuer.store.database import Database, Instant, metadata
from issuer.tokens import Family, NewFamily, RefreshToken

families = Table(
    "families",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("client_id", String(36), nullable=False),
    Column("scope", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("ended_at", Instant),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("family_id", ForeignKey("families.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", Instant, nullable=False),
    Column("successor_seed", LargeBinary, nullable=False),
    Column("used_at", Instant),
)


class FamilyStore:
    """Keeps families and their tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, family: Family, token: RefreshToken, new: NewFamily) -> bool:
        """Keep a new family with its first token, and the better hash; False, and nothing done, if too late.

        It is too late when the account was disabled or its password changed since it was verified.
        """
        account = users.c.id == family.user_id
        unchanged = (
            select(users.c.id)
            .where(account, users.c.password_hash == new.verified_hash, users.c.disabled_at.is_(None))
            .with_for_update()
        )
        with self._database.write() as connection:
            if connection.execute(unchanged).one_or_none() is None:
                return False
            if new.better_hash:
                connection.execute(update(users).where(account).values(password_hash=new.better_hash))
            connection.execute(insert(families).values(_family_row(family)))
            connection.execute(insert(refresh_tokens).values(_token_row(token)))
        return True

    def find(self, digest: bytes) -> tuple[RefreshToken, Family] | None:
        """Return the token with that digest and its family, or None."""
        both = join(refresh_tokens, families, refresh_tokens.c.family_id == families.c.id)
        columns = [
            *families.c,
            refresh_tokens.c.digest,
            refresh_tokens.c.expires_at.label("token_expires_at"),
            refresh_tokens.c.successor_seed,
            refresh_tokens.c.used_at,
        ]
        found = select(*columns).select_from(both).where(refresh_tokens.c.digest == digest)
        with self._database.read() as connection:
            row = connection.execute(found).one_or_none()
        if row is None:
            return None
        token = RefreshToken(row.digest, row.id, row.token_expires_at, row.successor_seed, row.used_at)
        return token, _family(row)

    def rotate(self, used: RefreshToken, successor: RefreshToken, now: datetime) -> bool:
        """Use up a token and keep its successor; False, and nothing done, if it is used or its family over."""
        alive = select(families.c.id).where(families.c.id == used.family_id, families.c.ended_at.is_(None))
        use = (
            update(refresh_tokens)
            .where(refresh_tokens.c.digest == used.digest, refresh_tokens.c.used_at.is_(None))
            .where(refresh_tokens.c.family_id.in_(alive.with_for_update(read=True)))
            .values(used_at=now)
        )
        with self._database.write() as connection:
            if not connection.execute(use).rowcount:
                return False
            connection.execute(insert(refresh_tokens).values(_token_row(successor)))
        return True

    def end(self, family_id: str, now: datetime) -> None:
        """End one family."""
        living = update(families).where(families.c.id == family_id, families.c.ended_at.is_(None))
        with self._database.write() as connection:
            connection.execute(living.values(ended_at=now))

    def end_all(self, now: datetime) -> int:
        """End every family and return how many there were."""
        living = update(families).where(*_living(now))
        with self._database.write() as connection:
            return connection.execute(living.values(ended_at=now)).rowcount

    def count_living(self, now: datetime) -> int:
        """Return how many families could still be refreshed, were their tokens known."""
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(families).where(*_living(now))) or 0

    def set_password_hash(self, user_id: str, password_hash: str, now: datetime) -> None:
        """Replace the hash of a password and end every family that the old one started."""
        self._change_account(user_id, now, password_hash=password_hash)

    def disable(self, user_id: str, now: datetime) -> None:
        """Disable an account from `now` on and end all its families."""
        self._change_account(user_id, now, disabled_at=now)

    def _change_account(self, user_id: str, now: datetime, **values: object) -> None:
        """Change the account first: a log-in that began before then starts no family, see `start`."""
        living = update(families).where(families.c.user_id == user_id, families.c.ended_at.is_(None))
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(**values))
            connection.execute(living.values(ended_at=now))


def _living(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return families.c.ended_at.is_(None), families.c.expires_at > now


def _family_row(family: Family) -> dict[str, object]:
    return {
        "id": family.id,
        "user_id": family.user_id,
        "client_id": family.client_id,
        "scope": format_scope(family.scope),
        "audience": json.dumps(family.audience),
        "created_at": family.created_at,
        "expires_at": family.expires_at,
        "ended_at": family.ended_at,
        "user_agent": family.user_agent,
        "address": family.address,
    }


def _token_row(token: RefreshToken) -> dict[str, object]:
    return {
        "digest": token.digest,
        "family_id": token.family_id,
        "expires_at": token.expires_at,
        "successor_seed": token.successor_seed,
        "used_at": token.used_at,
    }


def _family(row: Row[Any]) -> Family:
    return Family(
        id=row.id,
        user_id=row.user_id,
        client_id=row.client_id,
        scope=parse_scope(row.scope),
        audience=tuple(json.loads(row.audience)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        user_agent=row.user_agent,
        address=row.address,
    )
