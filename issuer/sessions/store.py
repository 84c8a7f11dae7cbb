"""The tables of browser sessions, and of the `sid` that each client knows a session by.

Sessions are ended by `ended`.
"""

import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    insert,
    join,
    select,
    update,
)

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.user import VerifiedPassword
from issuer.audit.event import Event, EventAction, by_user
from issuer.audit.events import record
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable, upserting
from issuer.database.types import Instant, Texts
from issuer.digests import digest
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS
from issuer.sessions.session import BrowserSession
from issuer.throttling.origin import Origin

SEEN_INTERVAL = timedelta(minutes=5)
"""How often the last use of a session is stored."""

browser_sessions = Table(
    "browser_sessions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("auth_time", Instant, nullable=False),
    Column("chosen_at", Instant, nullable=False),
    Column("acr", Text, nullable=False),
    Column("amr", Texts, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("is_remembered", Boolean, nullable=False),
    Column("ended_at", Instant, index=True),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
)

client_sessions = Table(
    "client_sessions",
    metadata,
    Column("sid", String(36), primary_key=True),
    Column("browser_session", ForeignKey("browser_sessions.id", ondelete="CASCADE"), nullable=False),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False),
    UniqueConstraint("browser_session", "client_id"),
)

# Built once: that takes longer than executing them.
_BY_DIGEST = select(browser_sessions).where(browser_sessions.c.digest == bindparam("wanted"))
_SID = select(client_sessions.c.sid).where(
    client_sessions.c.browser_session == bindparam("session"),
    client_sessions.c.client_id == bindparam("client"),
)
# Locked, so that it is not deleted before a row that refers to it is inserted.
_STORED = (
    select(browser_sessions.c.id)
    .where(browser_sessions.c.id == bindparam("session"))
    .with_for_update(read=True)
)


class SessionDeleted(LookupError):
    """The browser session is no longer stored: its user has deleted the account."""


class BrowserSessionStore:
    """Stores browser sessions. Each is found by a secret of 256 random bits, of which only the digest is stored.

    They live for `lifetime`, and end when unused for `idle`; those that users chose to keep live for `remembered`,
    used or not, unless that is 0.
    """

    def __init__(
        self, database: Database, lifetime: timedelta, idle: timedelta, remembered: timedelta = timedelta(0)
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._idle = idle
        self.remembered = max(remembered, lifetime) if remembered else remembered

    @property
    def may_be_remembered(self) -> bool:
        """Whether users may choose to stay signed in."""
        return bool(self.remembered)

    def start(
        self,
        user_id: str,
        password: VerifiedPassword | None,
        acr: str,
        amr: tuple[str, ...],
        origin: Origin,
        now: datetime,
        *,
        is_remembered: bool = False,
    ) -> tuple[BrowserSession, str] | None:
        """Store a new session; return it with its secret. None if the account changed or was disabled meanwhile."""
        session = BrowserSession(
            id=str(uuid.uuid4()),
            user_id=user_id,
            auth_time=now,
            chosen_at=now,
            acr=acr,
            amr=amr,
            created_at=now,
            seen_at=now,
            expires_at=self.end(now, is_remembered=is_remembered),
            is_remembered=is_remembered and self.may_be_remembered,
            user_agent=origin.user_agent,
            address=origin.address,
        )
        secret = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            if not lock_enabled(connection, user_id, password, now):
                return None
            connection.execute(insert(browser_sessions).values({**vars(session), "digest": digest(secret)}))
            record(connection, Event(now, by_user(user_id), EventAction.SIGNED_IN, user_id))
        return session, secret

    def authenticate_again(
        self,
        session: BrowserSession,
        password: VerifiedPassword | None,
        acr: str,
        amr: tuple[str, ...],
        now: datetime,
        *,
        is_remembered: bool = False,
        action: EventAction = EventAction.SIGNED_IN,
    ) -> str | None:
        """Store that the user of a session was authenticated again; return its new secret, the old one is void.

        `action` says what for. None if the session has ended, or the account changed or was disabled meanwhile.
        """
        secret = secrets.token_urlsafe(32)
        values = {
            "digest": digest(secret),
            "auth_time": now,
            "chosen_at": now,
            "acr": acr,
            "amr": amr,
            "seen_at": now,
            "expires_at": self.end(now, is_remembered=is_remembered),
            "is_remembered": is_remembered and self.may_be_remembered,
        }
        with self._database.write() as connection:
            if not lock_enabled(connection, session.user_id, password, now):
                return None
            changed = connection.execute(
                update(browser_sessions).where(_is(session.id), *active_sessions(now)).values(values)
            )
            if not changed.rowcount:
                return None
            record(connection, Event(now, by_user(session.user_id), action, session.user_id))
        return secret

    def find(self, secret: str, now: datetime) -> BrowserSession | None:
        """Return the session with that secret; None if there is none, it has ended, or was unused for too long."""
        with self._database.read() as connection:
            row = connection.execute(_BY_DIGEST, {"wanted": digest(secret)}).one_or_none()
        session = read_session(row) if row else None
        if session is None or session.ended_at is not None or session.expires_at <= now:
            return None
        return session if self._is_kept(session, now) or self._is_used(session, now) else None

    def _is_kept(self, session: BrowserSession, now: datetime) -> bool:
        """Whether a session is remembered, by the setting of today: it may have been changed since."""
        return session.is_remembered and now - session.auth_time < self.remembered

    def _is_used(self, session: BrowserSession, now: datetime) -> bool:
        return now - session.seen_at < self._idle and now - session.auth_time < self._lifetime

    def end(self, now: datetime, *, is_remembered: bool) -> datetime:
        """Return the absolute end of a session that is authenticated `now`."""
        return now + (self.remembered if is_remembered and self.may_be_remembered else self._lifetime)

    def touch(self, session: BrowserSession, now: datetime) -> None:
        """Store that a session is in use, at most each `SEEN_INTERVAL`."""
        if abs(now - session.seen_at) >= SEEN_INTERVAL:
            self._update(session.id, seen_at=now)

    def choose(self, session: BrowserSession, now: datetime) -> None:
        """Store that the user chose to go on with the account of a session."""
        self._update(session.id, chosen_at=now)

    def void_secret(self, session_id: str) -> None:
        """Replace the secret of a session by one that nobody has: its browser has to sign in again."""
        self._update(session_id, digest=digest(secrets.token_urlsafe(32)))

    def sid(self, session: BrowserSession, client_id: str) -> str:
        """Return the id of a session for one client; the same each time. Raise SessionDeleted."""
        wanted = {"session": session.id, "client": client_id}
        with self._database.read() as connection:
            found: str | None = connection.scalar(_SID, wanted)
        if found is not None:
            return found
        row = {"sid": str(uuid.uuid4()), "browser_session": session.id, "client_id": client_id}
        with self._database.write() as connection:
            if connection.execute(_STORED, wanted).first() is None:
                raise SessionDeleted
            # Another request may insert it first.
            connection.execute(upserting(connection, client_sessions).values(row).on_conflict_do_nothing())
            made: str = connection.execute(_SID, wanted).scalar_one()
        return made

    def by_sid(self, sid: str, now: datetime) -> BrowserSession | None:
        """Return the active session that a client knows as `sid`, or None."""
        both = join(client_sessions, browser_sessions)
        found = (
            select(browser_sessions)
            .select_from(both)
            .where(client_sessions.c.sid == sid, *active_sessions(now))
        )
        with self._database.read() as connection:
            row = connection.execute(found).one_or_none()
        return read_session(row) if row else None

    def active(self, user_id: str, now: datetime) -> tuple[list[BrowserSession], list[DatabaseDamaged]]:
        """Return the sessions of a user that can be used, newest first, and what is wrong with unreadable ones."""
        found = (
            select(browser_sessions)
            .where(browser_sessions.c.user_id == user_id, *active_sessions(now))
            .order_by(browser_sessions.c.created_at.desc(), browser_sessions.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(found).all()
        stored, unreadable = each_readable(rows, read_session)
        return [each for each in stored if self._is_kept(each, now) or self._is_used(each, now)], unreadable

    def _update(self, session_id: str, **values: object) -> None:
        with self._database.write() as connection:
            connection.execute(update(browser_sessions).where(_is(session_id)).values(**values))


def lock_active(connection: Connection, session_id: str, now: datetime) -> bool:
    """Lock a session for what ends with it: sign-out waits for the transaction. Return False if it has ended."""
    found = select(browser_sessions.c.id).where(_is(session_id), *active_sessions(now))
    return connection.execute(found.with_for_update(read=True)).first() is not None


def _is(session_id: str) -> ColumnElement[bool]:
    return browser_sessions.c.id == session_id


def active_sessions(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions under which a session has not ended; it may have been unused for too long."""
    return browser_sessions.c.ended_at.is_(None), browser_sessions.c.expires_at > now


def read_session(row: Row[Any]) -> BrowserSession:
    """Return the session in a row; raise DatabaseDamaged."""
    values = checked(browser_sessions, row)
    del values["digest"]
    return BrowserSession(**values)
