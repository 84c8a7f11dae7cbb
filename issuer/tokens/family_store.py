"""Refresh families as stored: started, found, listed and ended.

What presenting a token leads to is decided in `refresh`; the tables and the rotation are in `refresh_rotation`,
statements in `family_queries`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, join, select, update

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.store import users
from issuer.accounts.user import VerifiedPassword
from issuer.audit.event import Event, EventAction, by_user
from issuer.audit.events import record
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import batched, damaged, each_readable
from issuer.digests import digest
from issuer.sessions.ended import end_browser_sessions, end_browser_sessions_of
from issuer.sessions.store import (
    active_sessions,
    browser_sessions,
    lock_active,
)
from issuer.tokens.family_queries import (
    BY_DIGESTS,
    BY_PROOF,
    CLAIM_REPEAT,
    END_OLDEST,
    ISSUED,
    ISSUED_BY_DATABASE,
    KEEP,
    KEEP_FAMILY,
    Found,
    read_family,
    read_found,
    read_used_family,
)
from issuer.tokens.refresh import Family, Issued, RefreshRotation, RefreshToken
from issuer.tokens.refresh_rotation import families, refresh_tokens, rotate, token_row
from issuer.tokens.refresh_text import family_and_proof


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
            connection.execute(KEEP_FAMILY, vars(family))
            connection.execute(KEEP, token_row(token))
            oldest = {"user": family.user_id, "new": family.id, "now": family.created_at}
            connection.execute(END_OLDEST, oldest)
            if password is not None:
                subject = family.user_id, family.client_id
                event = Event(family.created_at, by_user(family.user_id), EventAction.SIGNED_IN, *subject)
                record(connection, event)
        return True

    def find(self, digest: bytes) -> Found | None:
        """Return the token with that digest, its family and user, or None; raise DatabaseDamaged."""
        return next(map(read_found, self._rows([digest])), None)

    def find_all(self, digests: Sequence[bytes]) -> dict[bytes, Found]:
        """Return the tokens of these digests that exist and are readable; `find` raises what is wrong with others."""
        found, _ = each_readable(self._rows(digests), read_found)
        return {each.token.digest: each for each in found}

    def _rows(self, digests: Sequence[bytes]) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(BY_DIGESTS, {"digests": digests}).all()

    def find_superseded(self, token: str) -> Found | None:
        """Return the family of a token that is no longer stored, by the proof that it carries; or None."""
        claimed = family_and_proof(token)
        if claimed is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(
                BY_PROOF, dict(zip(("family", "proof"), claimed, strict=True))
            ).one_or_none()
        if row is None:
            return None
        found = read_found(row)
        expires_at, proof = found.token.expires_at, found.token.proof_digest
        superseded = RefreshToken(digest(token), found.family.id, expires_at, b"", proof, superseded=True)
        return found._replace(token=superseded)

    def issued(self, digest: bytes) -> Issued | None:
        """Return when and to which network a token was issued, by the clock of the database; None for no token."""
        tick = self._database.shared_clock()
        with self._database.read() as connection:
            statement = ISSUED_BY_DATABASE if tick is None else ISSUED
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
            return connection.execute(CLAIM_REPEAT, {"token": digest, "now": now}).rowcount > 0

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
        return each_readable(rows, read_used_family)

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
        return read_family(row) if row else None

    def end(
        self, family_id: str, now: datetime, user_id: str | None = None, *, actor: str | None = None
    ) -> bool:
        """End a family, with `user_id` only if it is of this user; return False if none was active.

        The event names the `actor`; by default, here and below, that is the user.
        """
        active = update(families).where(families.c.id == family_id, *_active(now))
        if user_id is not None:
            active = active.where(families.c.user_id == user_id)
        ended = active.values(ended_at=now).returning(families.c.user_id, families.c.client_id)
        with self._database.write() as connection:
            row = connection.execute(ended).one_or_none()
            if row is not None:
                record(connection, _session_ended(now, actor, row.user_id, row.client_id))
        return row is not None

    def end_all(self, now: datetime, user_id: str | None = None, *, actor: str | None = None) -> int:
        """End every family and browser session, or every one of this user, and return how many there were.

        The end of every one is no event of accounts: the audit log has it.
        """
        active = update(families).where(*_active(now))
        if user_id is not None:
            active = active.where(families.c.user_id == user_id)
        with self._database.write() as connection:
            ended = len(end_browser_sessions_of(connection, user_id, None, now))
            ended += connection.execute(active.values(ended_at=now)).rowcount
            if user_id is not None and ended:
                record(connection, _session_ended(now, actor, user_id, detail=f"{ended} sessions"))
        return ended

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

    def end_browser_session(
        self, session_id: str, now: datetime, user_id: str | None = None, *, actor: str | None = None
    ) -> bool:
        """End a browser session and all families that end with it, with `user_id` only if it is of this user.

        Return False if none was active.
        """
        condition = browser_sessions.c.id == session_id
        if user_id is not None:
            condition &= browser_sessions.c.user_id == user_id
        with self._database.write() as connection:
            ended = _end_browser_sessions(connection, condition, now)
            if ended:
                owner = connection.scalar(select(browser_sessions.c.user_id).where(condition))
                record(connection, _session_ended(now, actor, str(owner)))
        return bool(ended)

    def end_with(self, session_id: str, until: datetime) -> None:
        """Let no family that ends with a browser session live longer than `until`."""
        longer = families.c.browser_session == session_id, families.c.expires_at > until
        with self._database.write() as connection:
            connection.execute(update(families).where(*longer).values(expires_at=until))

    def set_password_hash(
        self,
        user_id: str,
        password_hash: str,
        now: datetime,
        spared: str | None = None,
        family: str = "",
        events: Iterable[Event] = (),
    ) -> None:
        """Replace the hash of a password and end the user's sessions, but a `spared` browser session and a family."""
        values = {"password_hash": password_hash, "invited_at": None}
        self._change_account(user_id, now, spared, events, family, **values)

    def disable(self, user_id: str, now: datetime, *events: Event) -> None:
        """Disable an account from `now` on; end all its families and browser sessions."""
        self._change_account(user_id, now, None, events, disabled_at=now)

    def _change_account(
        self,
        user_id: str,
        now: datetime,
        spared: str | None,
        events: Iterable[Event],
        family: str = "",
        **values: object,
    ) -> None:
        """Change the account first, so that a log-in that began before starts no family: see `start`."""
        others = families.c.user_id == user_id, families.c.ended_at.is_(None), families.c.id != family
        active = update(families).where(*others)
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(**values))
            # Always before the families, so that no two transactions wait for each other.
            end_browser_sessions_of(connection, user_id, spared, now)
            connection.execute(active.values(ended_at=now))
            record(connection, *events)

    def end_others(self, user_id: str, spared: str, now: datetime) -> None:
        """End every session of a user except a browser session, and what ends with that one."""
        kept = families.c.browser_session.is_(None) | (families.c.browser_session != spared)
        with self._database.write() as connection:
            end_browser_sessions_of(connection, user_id, spared, now)
            theirs = update(families).where(families.c.user_id == user_id, kept, *_active(now))
            connection.execute(theirs.values(ended_at=now))
            record(connection, _session_ended(now, None, user_id, detail="all others"))


def _session_ended(
    now: datetime, actor: str | None, user_id: str, client_id: str | None = None, detail: str | None = None
) -> Event:
    return Event(now, actor or by_user(user_id), EventAction.SESSION_ENDED, user_id, client_id, detail)


def _end_browser_sessions(connection: Connection, condition: ColumnElement[bool], now: datetime) -> list[str]:
    """End browser sessions and the families that end with them; return the ids of the sessions."""
    ended = end_browser_sessions(connection, condition, now)
    for some in batched(ended):
        theirs = update(families).where(families.c.browser_session.in_(some), *_active(now))
        connection.execute(theirs.values(ended_at=now))
    return ended


def _active(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return families.c.ended_at.is_(None), families.c.expires_at > now
