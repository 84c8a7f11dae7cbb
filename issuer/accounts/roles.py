"""Roles: named sets of scopes that users have in addition to their own; the tables, and who has which role.

The scope of a role is read with each user, by `store`: a change has effect at the next token.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    join,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError

from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable, upserting
from issuer.database.types import Instant, Scope
from issuer.oauth import InvalidRequest, format_scope

ROLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
ROLE_SCOPE_MOST_CHARACTERS = 500
ROLES_MOST = 8
"""Of one user: a token with all of them, and further scopes, must be as short as servers accept."""

roles = Table(
    "roles",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("scope", Scope, nullable=False),
    Column("created_at", Instant, nullable=False),
)

user_roles = Table(
    "user_roles",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("role", ForeignKey("roles.name"), primary_key=True, index=True),
)


class NoSuchRole(InvalidRequest):
    """A role does not exist, or no longer."""


@dataclass(frozen=True)
class Role:
    """A named set of scopes."""

    name: str
    scope: frozenset[str]
    created_at: datetime


def require_role_name(name: str) -> str:
    """Return `name`; raise InvalidRequest for one that is not accepted."""
    if not ROLE_NAME.fullmatch(name):
        raise InvalidRequest(
            "the name of a role has 1 to 64 letters, digits, or characters of . _ : - and begins with a letter or"
            " digit"
        )
    return name


def require_role_scope(scope: frozenset[str]) -> frozenset[str]:
    """Return `scope`; raise InvalidRequest if it is too long for a role."""
    if len(format_scope(scope)) > ROLE_SCOPE_MOST_CHARACTERS:
        raise InvalidRequest(f"the scope of a role has at most {ROLE_SCOPE_MOST_CHARACTERS} characters")
    return scope


def role_columns(user_id: ColumnElement[str], prefix: str = "") -> tuple[ColumnElement[frozenset[str]], ...]:
    """Return `roles` and `role_scope` as columns of a query of users; NULL for a user without roles."""
    mine = user_roles.c.user_id == user_id
    names = select(func.aggregate_strings(user_roles.c.role, " ")).where(mine)
    granted = join(user_roles, roles, user_roles.c.role == roles.c.name)
    scope = (
        select(func.aggregate_strings(type_coerce(roles.c.scope, Text), " ")).select_from(granted).where(mine)
    )
    columns = {"roles": names, "role_scope": scope}
    return tuple(
        type_coerce(found.scalar_subquery(), Scope).label(prefix + name) for name, found in columns.items()
    )


class RoleStore:
    """Stores roles, and which users have them; each change with the events that its caller gives."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, role: Role, *events: Event) -> bool:
        """Store a role, in place of one of the same name; return whether it is new."""
        with self._database.write() as connection:
            record(connection, *events)
            changed = update(roles).where(roles.c.name == role.name).values(scope=role.scope)
            if connection.execute(changed).rowcount:
                return False
            new = upserting(connection, roles).values(**vars(role))  # another command may insert it first
            again = {"scope": role.scope}
            connection.execute(new.on_conflict_do_update(index_elements=["name"], set_=again))
        return True

    def find(self, name: str) -> Role | None:
        """Return the role of that name, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(roles).where(roles.c.name == name)).one_or_none()
        return Role(**checked(roles, row)) if row else None

    def all(self) -> tuple[list[Role], list[DatabaseDamaged]]:
        """Return all roles in the order of their names, and what is wrong with those that cannot be read."""
        with self._database.read() as connection:
            rows = connection.execute(select(roles).order_by(roles.c.name)).all()
        return each_readable(rows, lambda row: Role(**checked(roles, row)))

    def count_users(self, name: str) -> int:
        """Return how many users have a role."""
        counted = select(func.count()).select_from(user_roles).where(user_roles.c.role == name)
        with self._database.read() as connection:
            return connection.scalar(counted) or 0

    def delete(self, name: str, *events: Event) -> bool:
        """Delete a role, and take it from all users; return False if there is none."""
        with self._database.write() as connection:
            # Locked first: whoever is given the role meanwhile waits, and then finds that it does not exist.
            locked = select(roles.c.name).where(roles.c.name == name).with_for_update()
            if connection.execute(locked).first() is None:
                return False
            connection.execute(delete(user_roles).where(user_roles.c.role == name))
            connection.execute(delete(roles).where(roles.c.name == name))
            record(connection, *events)
        return True

    def give(self, user_id: str, name: str, *events: Event) -> bool:
        """Give a user a role; return False for one that the user has. Raise NoSuchRole."""
        row = {"user_id": user_id, "role": name}
        mine = user_roles.c.user_id == user_id, user_roles.c.role == name
        try:
            with self._database.write() as connection:
                if connection.execute(select(user_roles).where(*mine)).first():
                    return False
                connection.execute(insert(user_roles).values(row))
                record(connection, *events)
        except IntegrityError:
            raise NoSuchRole(
                f"no such role: {name!r}, or no such user any more; see: issuer roles list"
            ) from None
        return True

    def take(self, user_id: str, names: frozenset[str], event: Event | None = None) -> int:
        """Take roles from a user; return how many of them the user had. The event is recorded for each of these."""
        mine = user_roles.c.user_id == user_id, user_roles.c.role.in_(names)
        with self._database.write() as connection:
            taken = connection.scalars(delete(user_roles).where(*mine).returning(user_roles.c.role)).all()
            record(connection, *(replace(event, detail=name) for name in sorted(taken) if event))
        return len(taken)
