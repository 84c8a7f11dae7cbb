"""Refresh families as stored: started, found, listed and ended.

What presenting a token leads to is decided in `refresh`; the tables and the rotation are in `refresh_rotation`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, insert, join, select, update

from issuer.accounts.store import lock_enabled, read_user, user_columns, users
from issuer.accounts.user import User, VerifiedPassword
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import batched, checked, damaged, each_readable
from issuer.digests import digest
from issuer.sessions.ended import end_browser_sessions, end_browser_sessions_of
from issuer.sessions.store import (
    active_sessions,
    browser_sessions,
    lock_active,
)
from issuer.tokens.refresh import Family, Issued, RefreshRotation, RefreshToken
from issuer.tokens.refresh_rotation import DATABASE_TICK, families, refresh_tokens, rotate, token_row
from issuer.tokens.refresh_text import family_and_proof

SESSIONS_MOST = 100
"""Of one user; beyond that the oldest end, as programs that log in again and again would accumulate them."""

# Statements are built once: that takes longer than executing them.
_TOKEN, _OWNER = "token_", "owner_"
_WITH_OWNER = (
    select(
        *families.c,
        *(column.label(_TOKEN + column.name) for column in refresh_tokens.c),
        *user_columns(_OWNER),
    )
    .select_from(join(refresh_tokens, families, refresh_tokens.c.family_id == families.c.id))
    .join(users, users.c.id == families.c.user_id)
)
_BY_DIGESTS = _WITH_OWNER.where(refresh_tokens.c.digest.in_(bindparam("digests", expanding=True)))
_BY_PROOF = _WITH_OWNER.where(
    families.c.id == bindparam("family"), refresh_tokens.c.proof_digest == bindparam("proof")
).limit(1)
_ISSUED = select(refresh_tokens.c.subnet, refresh_tokens.c.issued_tick).where(
    refresh_tokens.c.digest == bindparam("wanted")
)
_ISSUED_BY_DATABASE = _ISSUED.add_columns(DATABASE_TICK.label("tick"))
_CLAIM_REPEAT = (
    update(refresh_tokens)
    .where(refresh_tokens.c.digest == bindparam("token"), refresh_tokens.c.repeated_at.is_(None))
    .values(repeated_at=bindparam("now"))
)
_KEEP = insert(refresh_tokens)
_KEEP_FAMILY = insert(families)
_OPEN = families.c.user_id == bindparam("user"), families.c.ended_at.is_(None)
# Never the new one, whatever clock the others were started by.
_OTHERS = *_OPEN, families.c.id != bindparam("new")
_NEWEST = (
    select(families.c.id).where(*_OTHERS).order_by(families.c.created_at.desc()).limit(SESSIONS_MOST - 1)
)
_END_OLDEST = (
    update(families).where(*_OTHERS, families.c.id.not_in(_NEWEST)).values(ended_at=bindparam("now"))
)


class Found(NamedTuple):
    """A refresh token with its family and user."""

    token: RefreshToken
    family: Family
    user: User


class FamilyStore:
    """Stores refresh families and their tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, family: Family, token: RefreshToken, password: VerifiedPassword | None = None) -> bool:
        """Store a new family with its first token; return False and store nothing for a disabled account.

        Also return False if the browser session that it ends with has ended, and with `password` if its hash is no
        longer the user's; store the upgraded hash, if any.
        """
        session = family.browser_session
        with self._database.write() as connection:
            signs_in = family.created_at if password else None
            if not lock_enabled(connection, family.user_id, password, signs_in):
                return False
            if session is not None and not lock_active(connection, session, family.created_at):
                return False
            connection.execute(_KEEP_FAMILY, vars(family))
            connection.execute(_KEEP, token_row(token))
            oldest = {"user": family.user_id, "new": family.id, "now": family.created_at}
            connection.execute(_END_OLDEST, oldest)
        return True

    def find(self, digest: bytes) -> Found | None:
        """Return the token with that digest, its family and user, or None; raise DatabaseDamaged."""
        return next(map(_found, self._rows([digest])), None)

    def find_all(self, digests: Sequence[bytes]) -> dict[bytes, Found]:
        """Return the tokens of these digests that exist and are readable; `find` raises what is wrong with others."""
        found, _ = each_readable(self._rows(digests), _found)
        return {each.token.digest: each for each in found}

    def _rows(self, digests: Sequence[bytes]) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(_BY_DIGESTS, {"digests": digests}).all()

    def find_superseded(self, token: str) -> Found | None:
        """Return the family of a token that is no longer stored, by the proof that it carries; or None."""
        claimed = family_and_proof(token)
        if claimed is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(
                _BY_PROOF, dict(zip(("family", "proof"), claimed, strict=True))
            ).one_or_none()
        if row is None:
            return None
        found = _found(row)
        expires_at, proof = found.token.expires_at, found.token.proof_digest
        superseded = RefreshToken(digest(token), found.family.id, expires_at, b"", proof, superseded=True)
        return found._replace(token=superseded)

    def issued(self, digest: bytes) -> Issued | None:
        """Return when and to which network a token was issued, by the clock of the database; None for no token."""
        tick = self._database.shared_clock()
        with self._database.read() as connection:
            statement = _ISSUED_BY_DATABASE if tick is None else _ISSUED
            row = connection.execute(statement, {"wanted": digest}).one_or_none()
        if row is None:
            return None
        if not isinstance(row.issued_tick, int | None):  # SQLite keeps any type in any column
            raise damaged(refresh_tokens, digest)
        now = row.tick if tick is None else tick
        age = None if row.issued_tick is None else timedelta(microseconds=now - row.issued_tick)
        return Issued(row.subnet, age)

    def claim_repeat(self, digest: bytes, now: datetime) -> bool:
        """Record that a token is given a second time to the holder of its predecessor; False if it was already."""
        with self._database.write() as connection:
            return connection.execute(_CLAIM_REPEAT, {"token": digest, "now": now}).rowcount > 0

    def rotate(self, rotation: RefreshRotation) -> bool:
        """Store a rotation; return False and store nothing if its token is used or its family has ended."""
        return bool(rotate(self._database, [rotation], skip_locked=False))

    def rotate_all(self, rotations: Sequence[RefreshRotation]) -> frozenset[bytes]:
        """Store all rotations that need not wait for locks of others; return the digests of the tokens now used."""
        return rotate(self._database, rotations, skip_locked=True)

    def active(
        self, user_id: str, now: datetime
    ) -> tuple[list[tuple[Family, datetime]], list[DatabaseDamaged]]:
        """Return the families of a user that can be refreshed, newest first, each with when it last was.

        Also return what is wrong with those that cannot be read.
        """
        columns = [*families.c, func.max(refresh_tokens.c.used_at).label("used_at")]
        both = join(families, refresh_tokens, refresh_tokens.c.family_id == families.c.id)
        found = (
            select(*columns)
            .select_from(both)
            .where(families.c.user_id == user_id, *_active(now))
            .group_by(families.c.id)
            .having(func.max(refresh_tokens.c.expires_at) > now)
            .order_by(families.c.created_at.desc(), families.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        return each_readable(rows, _used_family)

    def is_active(self, family_id: str, now: datetime) -> bool:
        """Return whether a family has not ended."""
        found = select(families.c.id).where(families.c.id == family_id, *_active(now))
        with self._database.read() as connection:
            return connection.scalar(found) is not None

    def find_active(self, family_id: str, now: datetime) -> Family | None:
        """Return a family that has not ended, or None."""
        found = select(families).where(families.c.id == family_id, *_active(now))
        with self._database.read() as connection:
            row = connection.execute(found).one_or_none()
        return _family(row) if row else None

    def end(self, family_id: str, now: datetime, user_id: str | None = None) -> bool:
        """End a family, with `user_id` only if it is of this user; return False if none was active."""
        active = update(families).where(families.c.id == family_id, *_active(now))
        if user_id is not None:
            active = active.where(families.c.user_id == user_id)
        with self._database.write() as connection:
            return connection.execute(active.values(ended_at=now)).rowcount > 0

    def end_all(self, now: datetime, user_id: str | None = None) -> int:
        """End every family and browser session, or every one of this user, and return how many there were."""
        active = update(families).where(*_active(now))
        if user_id is not None:
            active = active.where(families.c.user_id == user_id)
        with self._database.write() as connection:
            ended = len(end_browser_sessions_of(connection, user_id, None, now))
            return ended + connection.execute(active.values(ended_at=now)).rowcount

    def end_of_client(self, user_id: str, client_id: str, now: datetime) -> int:
        """End every family that a user has with a client, and return how many there were."""
        theirs = families.c.user_id == user_id, families.c.client_id == client_id, *_active(now)
        with self._database.write() as connection:
            return connection.execute(update(families).where(*theirs).values(ended_at=now)).rowcount

    def count_active(self, now: datetime) -> int:
        """Return how many families and browser sessions have not ended."""
        in_browsers = select(func.count()).select_from(browser_sessions).where(*active_sessions(now))
        count = select(func.count()).select_from(families).where(*_active(now))
        with self._database.read() as connection:
            return connection.scalar(select(count.scalar_subquery() + in_browsers.scalar_subquery())) or 0

    def end_browser_session(self, session_id: str, now: datetime, user_id: str | None = None) -> bool:
        """End a browser session, with `user_id` only if it is of this user, and the families that end with it."""
        condition = browser_sessions.c.id == session_id
        if user_id is not None:
            condition &= browser_sessions.c.user_id == user_id
        with self._database.write() as connection:
            return bool(_end_browser_sessions(connection, condition, now))

    def end_with(self, session_id: str, until: datetime) -> None:
        """Let no family that ends with a browser session live longer than `until`."""
        longer = families.c.browser_session == session_id, families.c.expires_at > until
        with self._database.write() as connection:
            connection.execute(update(families).where(*longer).values(expires_at=until))

    def set_password_hash(
        self, user_id: str, password_hash: str, now: datetime, spared: str | None = None, family: str = ""
    ) -> None:
        """Replace the hash of a password and end the user's sessions, but a `spared` browser session and a family."""
        self._change_account(user_id, now, spared, family, password_hash=password_hash, invited_at=None)

    def disable(self, user_id: str, now: datetime) -> None:
        """Disable an account from `now` on; end all its families and browser sessions."""
        self._change_account(user_id, now, None, disabled_at=now)

    def _change_account(
        self, user_id: str, now: datetime, spared: str | None, family: str = "", **values: object
    ) -> None:
        """Change the account first, so that a log-in that began before starts no family: see `start`."""
        others = families.c.user_id == user_id, families.c.ended_at.is_(None), families.c.id != family
        active = update(families).where(*others)
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(**values))
            # Always before the families, so that no two transactions wait for each other.
            end_browser_sessions_of(connection, user_id, spared, now)
            connection.execute(active.values(ended_at=now))

    def end_others(self, user_id: str, spared: str, now: datetime) -> None:
        """End every session of a user except a browser session, and what ends with that one."""
        kept = families.c.browser_session.is_(None) | (families.c.browser_session != spared)
        with self._database.write() as connection:
            end_browser_sessions_of(connection, user_id, spared, now)
            theirs = update(families).where(families.c.user_id == user_id, kept, *_active(now))
            connection.execute(theirs.values(ended_at=now))


def _end_browser_sessions(connection: Connection, condition: ColumnElement[bool], now: datetime) -> list[str]:
    """End browser sessions and the families that end with them; return the ids of the sessions."""
    ended = end_browser_sessions(connection, condition, now)
    for some in batched(ended):
        theirs = update(families).where(families.c.browser_session.in_(some), *_active(now))
        connection.execute(theirs.values(ended_at=now))
    return ended


def _active(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return families.c.ended_at.is_(None), families.c.expires_at > now


def _found(row: Row[Any]) -> Found:
    return Found(_token(row), _family(row), read_user(row, _OWNER))


def _token(row: Row[Any]) -> RefreshToken:
    values = checked(refresh_tokens, row, _TOKEN)
    del values["issued_tick"], values["repeated_at"]
    return RefreshToken(**values)


def _used_family(row: Row[Any]) -> tuple[Family, datetime]:
    if not isinstance(row.used_at, datetime | None):
        raise damaged(families, row.id)
    return _family(row), row.used_at or row.created_at


def _family(row: Row[Any]) -> Family:
    return Family(**checked(families, row))
