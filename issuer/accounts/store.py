"""The table of users, unique by the canonical form of the name.

Which names and passwords are acceptable is decided in `user`; changes that also end sessions are in
`tokens.family_store`.
"""

import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Row,
    String,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError

from issuer.accounts.freed_names import FreedNames
from issuer.accounts.profile import Profile, canonical_email
from issuer.accounts.roles import role_columns, user_roles
from issuer.accounts.user import User, canonical_username
from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import batched, checked, damaged, each_readable
from issuer.database.secrets import SecretStore
from issuer.database.subjects import claim, subjects
from issuer.database.types import Instant, Scope, TextMap
from issuer.oauth import UsernameTaken

DRAW_BITS = 63
SECRET = "decoys"  # noqa: S105 - its name

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("username", Text, nullable=False),
    # By code points, as on SQLite: the index serves beginnings of names, and pages in the order of names.
    Column(
        "canonical_username",
        Text().with_variant(Text(collation="C"), "postgresql"),
        nullable=False,
        unique=True,
    ),
    Column("password_hash", Text, nullable=False),
    Column("scope", Scope, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Column("name", Text),
    Column("email", Text),
    Column("canonical_email", Text, index=True),
    Column("email_verified", Boolean, nullable=False),
    Column("invited_at", Instant),
    Column("updated_at", Instant),
    # A random number by which `decoy_hash` draws an account: imported identifiers are not random.
    Column("draw", BigInteger, nullable=False, index=True),
    Column("signed_in_at", Instant),
    Column("attributes", TextMap, nullable=False),
)
_IS_DISABLED = users.c.disabled_at.is_not(None)
Index(
    "disabled_users",
    users.c.canonical_username,
    postgresql_where=_IS_DISABLED,
    sqlite_where=_IS_DISABLED,
)


def user_columns(prefix: str = "") -> tuple[ColumnElement[Any], ...]:
    """Return the columns that `read_user` reads, with a prefix."""
    own = (column.label(prefix + column.name) for column in users.c)
    return (*own, *role_columns(users.c.id, prefix))


# Built once: that takes longer than executing them.
_BY_ID = select(*user_columns()).where(users.c.id == bindparam("user_id"))
_DRAWN = select(users.c.password_hash).order_by(users.c.draw).limit(1)
_DRAWN_FROM = _DRAWN.where(users.c.draw >= bindparam("draw"))
_BY_NAME = select(*user_columns()).where(users.c.canonical_username == bindparam("name"))


class Taken(NamedTuple):
    """Names and identifiers that are in use already."""

    names: Collection[str]
    """Canonical names of accounts."""
    ids: Collection[str]
    """Identifiers of accounts."""
    subjects: Collection[str]
    """Identifiers of accounts and clients, including removed ones."""
    reserved: Collection[str] = ()
    """Canonical names of accounts that were deleted lately."""


class AccountStore:
    """Stores accounts; each change with the events that its caller gives."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.freed_names = FreedNames(database)

    def add(self, user: User, *events: Event) -> None:
        """Store a new account; raise UsernameTaken if its canonical name exists, or is still reserved."""
        self.add_all([user], events)

    def add_all(self, new: Sequence[User], events: Iterable[Event] = ()) -> None:
        """Store new accounts, all or none; raise UsernameTaken if the name or id of one exists, or is reserved."""
        try:
            with self._database.together(), self._database.write() as connection:
                for some in batched(new):
                    connection.execute(insert(users), [_row(user) for user in some])
                    claim(connection, [user.id for user in some])
                    # After the insert: it waits for a deletion that has not been committed yet.
                    created = max(user.created_at for user in some)
                    self.freed_names.require_free([user.username for user in some], created)
                record(connection, *events)
        except IntegrityError:
            raise UsernameTaken from None

    def taken(self, new: Sequence[User]) -> Taken:
        """Return which names and ids of the `new` accounts are in use already."""
        names, ids, others = set[str](), set[str](), set[str]()
        for some in batched(new):
            by_name = [canonical_username(user.username) for user in some]
            same_name = users.c.canonical_username.in_(by_name)
            new_ids = [user.id for user in some]
            with self._database.read() as connection:
                names.update(connection.scalars(select(users.c.canonical_username).where(same_name)))
            with self._database.read() as connection:
                ids.update(connection.scalars(select(users.c.id).where(users.c.id.in_(new_ids))))
            with self._database.read() as connection:
                others.update(connection.scalars(select(subjects.c.id).where(subjects.c.id.in_(new_ids))))
        reserved = self.freed_names.reserved(
            [canonical_username(user.username) for user in new],
            max((user.created_at for user in new), default=datetime.max.replace(tzinfo=UTC)),
        )
        return Taken(names, ids, others, reserved)

    def by_id(self, user_id: str) -> User | None:
        """Return the account, or None."""
        with self._database.read() as connection:
            row = connection.execute(_BY_ID, {"user_id": user_id}).one_or_none()
        return read_user(row) if row else None

    def names(self, ids: Collection[str]) -> dict[str, str]:
        """Return the usernames of the accounts with these ids that exist, by id."""
        found = dict[str, str]()
        for some in batched(list(ids)):
            named = select(users.c.id, users.c.username).where(users.c.id.in_(some))
            with self._database.read() as connection:
                found.update((row.id, str(row.username)) for row in connection.execute(named))
        return found

    def by_username(self, username: str) -> User | None:
        """Return the account of that name in any spelling, or None."""
        with self._database.read() as connection:
            row = connection.execute(_BY_NAME, {"name": canonical_username(username)}).one_or_none()
        return read_user(row) if row else None

    def by_email(self, address: str, most: int) -> list[User]:
        """Return up to `most` accounts that this address is known to belong to."""
        theirs = users.c.canonical_email == canonical_email(address), users.c.email_verified
        found = select(*user_columns()).where(*theirs).order_by(users.c.created_at, users.c.id).limit(most)
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        return each_readable(rows, read_user)[0]

    def with_role(self, name: str, most_characters: int) -> list[User]:
        """Return the accounts with a role whose own scopes and those of all their roles may be longer together."""
        theirs = users.c.id.in_(select(user_roles.c.user_id).where(user_roles.c.role == name))
        _, by_roles = role_columns(users.c.id)
        own, others = (func.length(type_coerce(scope, Text)) for scope in (users.c.scope, by_roles))
        is_long = own + others + 1 > most_characters
        found = select(*user_columns()).where(theirs, is_long).order_by(users.c.username)
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        return each_readable(rows, read_user)[0]

    def decoy_hash(self, username: str) -> str | None:
        """Return the hash to verify a password against if `username` is unknown: that of some account, or None.

        Imported hashes take another time than those made here. Each name draws one account, always the same, so that
        unknown names show the same mix of times as known ones. The draw is keyed with a secret, so that an
        attacker cannot compute which account a name draws. It is made for known names as well, to cost the same.
        """
        name = canonical_username(username).encode()
        draw = int.from_bytes(hmac.digest(self._secret, name, "sha256")[:8]) >> (64 - DRAW_BITS)
        with self._database.read() as connection:
            found: str | None = connection.scalar(_DRAWN_FROM, {"draw": draw})
        if found is None:  # after the last one comes the first
            with self._database.read() as connection:
                found = connection.scalar(_DRAWN)
        return found if isinstance(found, str) else None  # SQLite keeps any type in any column

    @cached_property
    def _secret(self) -> bytes:
        return SecretStore(self._database).secret(SECRET)

    def all(self) -> tuple[list[User], list[DatabaseDamaged]]:
        """Return all accounts, oldest first, and what is wrong with those that cannot be read."""
        with self._database.read() as connection:
            rows = connection.execute(select(*user_columns()).order_by(users.c.created_at, users.c.id)).all()
        return each_readable(rows, read_user)

    def set_scope(self, user_id: str, scope: frozenset[str], *events: Event) -> None:
        """Replace what the user was granted."""
        self._update(user_id, events, scope=scope)

    def change(
        self,
        user_id: str,
        change: Callable[[User], Mapping[str, object]],
        event: Callable[[User, User], Event] | None = None,
    ) -> User | None:
        """Store the columns that `change` returns for the user as stored, and return the user; None: no such user.

        The row is locked meanwhile: of two changes at the same time none is lost. What `change` raises undoes it.
        If anything is stored, what `event` returns for the user before and after is recorded.
        """
        with self._database.together(), self._database.write() as connection:
            locked = select(users.c.id).where(users.c.id == user_id).with_for_update()
            user = self.by_id(user_id) if connection.execute(locked).first() else None
            values = change(user) if user else {}
            if not user or not values:
                return user
            connection.execute(update(users).where(users.c.id == user_id).values(**values))
            after = self.by_id(user_id)
            if event and after:
                record(connection, event(user, after))
            return after

    def set_profile(self, user_id: str, profile: Profile, now: datetime, *events: Event) -> None:
        """Replace the name and the e-mail address; the caller has locked the account, or knows nothing of them."""
        self._update(user_id, events, **profile_columns(profile, now))

    def invite_again(self, user: User, password_hash: str, now: datetime) -> bool:
        """Replace the hash of a password that nobody knows; return False if the user has chosen one meanwhile."""
        same = users.c.id == user.id, users.c.password_hash == user.password_hash
        again = update(users).where(*same, users.c.invited_at.is_not(None))
        with self._database.write() as connection:
            changed = connection.execute(again.values(password_hash=password_hash, invited_at=now))
            return changed.rowcount > 0

    def enable(self, user_id: str, *events: Event) -> None:
        """Enable a disabled account."""
        self._update(user_id, events, disabled_at=None)

    def _update(self, user_id: str, events: Iterable[Event], **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(**values))
            record(connection, *events)


def profile_columns(profile: Profile, now: datetime) -> dict[str, object]:
    """Return the columns of a profile that was changed at `now`."""
    return {**vars(profile), "canonical_email": canonical_email(profile.email), "updated_at": now}


def _row(user: User) -> dict[str, object]:
    return {
        **{name: value for name, value in vars(user).items() if name in users.c},
        "canonical_username": canonical_username(user.username),
        "canonical_email": canonical_email(user.email),
        "draw": secrets.randbits(DRAW_BITS),
    }


def read_user(row: Row[Any], prefix: str = "") -> User:
    """Return the account in a row, whose columns may have a prefix; raise DatabaseDamaged."""
    values = checked(users, row, prefix)
    del values["canonical_username"], values["canonical_email"], values["draw"]
    for name in ("roles", "role_scope"):
        found = row._mapping[prefix + name]  # noqa: SLF001 - its public name
        if not isinstance(found, frozenset | None):
            raise damaged(users, values["id"])
        values[name] = found or frozenset()
    return User(**values)
