"""Accounts: one row a user, unique by the canonical form of the name.

What names and passwords are acceptable is decided in `accounts`; changes that end sessions are in `families`.
"""

from typing import Any

from sqlalchemy import Column, Row, String, Table, Text, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.accounts import User, canonical_username
from issuer.oauth import UsernameTaken, format_scope, parse_scope
from issuer.store.database import Database, Instant, metadata

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("username", Text, nullable=False),
    Column("canonical_username", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)


# Made once: building them takes longer than the database does to answer.
_BY_ID = select(users).where(users.c.id == bindparam("user_id"))
_BY_NAME = select(users).where(users.c.canonical_username == bindparam("name"))


class AccountStore:
    """Keeps accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User) -> None:
        """Keep a new account; raise UsernameTaken when its name, or one that reads the same, exists."""
        row = {
            "id": user.id,
            "username": user.username,
            "canonical_username": canonical_username(user.username),
            "password_hash": user.password_hash,
            "scope": format_scope(user.scope),
            "created_at": user.created_at,
            "disabled_at": user.disabled_at,
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(users).values(row))
        except IntegrityError:
            raise UsernameTaken("another account has this username; choose another") from None

    def by_id(self, user_id: str) -> User | None:
        """Return the account, or None."""
        with self._database.read() as connection:
            row = connection.execute(_BY_ID, {"user_id": user_id}).one_or_none()
        return read_user(row) if row else None

    def by_username(self, username: str) -> User | None:
        """Return the account of that name in any spelling, or None."""
        with self._database.read() as connection:
            row = connection.execute(_BY_NAME, {"name": canonical_username(username)}).one_or_none()
        return read_user(row) if row else None

    def all(self) -> list[User]:
        """Return all accounts, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(users).order_by(users.c.created_at, users.c.id)).all()
        return [read_user(row) for row in rows]

    def set_scope(self, user_id: str, scope: frozenset[str]) -> None:
        """Replace what the user was granted."""
        self._update(user_id, scope=format_scope(scope))

    def enable(self, user_id: str) -> None:
        """Enable a disabled account."""
        self._update(user_id, disabled_at=None)

    def _update(self, user_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(**values))


def read_user(row: Row[Any], prefix: str = "") -> User:
    """Return the account in a row, whose columns may bear a prefix."""
    of = {column.name: getattr(row, prefix + column.name) for column in users.c}
    return User(
        id=of["id"],
        username=of["username"],
        password_hash=of["password_hash"],
        scope=parse_scope(of["scope"]),
        created_at=of["created_at"],
        disabled_at=of["disabled_at"],
    )
