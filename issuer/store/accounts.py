"""Accounts: one row a user, unique by the canonical form of the name.

What names and passwords are acceptable is decided in `accounts`; changes that end sessions are in `families`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Column, Row, String, Table, Text, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from issuer.accounts import User, canonical_username
from issuer.oauth import UsernameTaken, format_scope, parse_scope
from issuer.store.database import Database, Instant, metadata, reads

T = TypeVar("T")

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


ROWS_AT_ONCE = 1000
"""In one statement, of which each database takes some thousand parameters."""

# Made once: building them takes longer than the database does to answer.
_BY_ID = select(users).where(users.c.id == bindparam("user_id"))
_BY_NAME = select(users).where(users.c.canonical_username == bindparam("name"))


class Taken(NamedTuple):
    """What other accounts have already."""

    names: Collection[str]
    """Canonical ones."""
    ids: Collection[str]


class AccountStore:
    """Keeps accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User) -> None:
        """Keep a new account; raise UsernameTaken when its name, or one that reads the same, exists."""
        self.add_all([user])

    def add_all(self, new: Sequence[User]) -> None:
        """Keep new accounts, all or none; raise UsernameTaken when the name or the id of one exists."""
        try:
            with self._database.write() as connection:
                for some in _batched(new, ROWS_AT_ONCE):
                    connection.execute(insert(users), [_row(user) for user in some])
        except IntegrityError:
            raise UsernameTaken("another account has this username; choose another") from None

    def taken(self, new: Sequence[User]) -> Taken:
        """Return which names and ids of new accounts others have."""
        names, ids = set[str](), set[str]()
        for some in _batched(new, ROWS_AT_ONCE):
            by_name = [canonical_username(user.username) for user in some]
            same_name = users.c.canonical_username.in_(by_name)
            same_id = users.c.id.in_([user.id for user in some])
            with self._database.read() as connection:
                names.update(connection.scalars(select(users.c.canonical_username).where(same_name)))
            with self._database.read() as connection:
                ids.update(connection.scalars(select(users.c.id).where(same_id)))
        return Taken(names, ids)

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


def _batched(rows: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Yield the rows, in their order, `most` at a time."""
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "username": user.username,
        "canonical_username": canonical_username(user.username),
        "password_hash": user.password_hash,
        "scope": format_scope(user.scope),
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }


@reads(users)
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
