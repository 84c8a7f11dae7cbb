"""Signing in with a browser: a password is verified, and the session of the browser starts or continues.

Passwords are verified by `accounts.login`, sessions stored in `sessions`; forms are in `web.pages`.
"""

from dataclasses import replace
from datetime import datetime

import structlog

from issuer.accounts.login import AccountChanged, AuthenticatedUser, PasswordLogin
from issuer.accounts.user import User, VerifiedPassword
from issuer.database.database import Database
from issuer.sessions.session import Acr, Amr, BrowserSession
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore

log = structlog.get_logger("issuer.sessions")

BY_PASSWORD = str(Acr.PASSWORD), (str(Amr.PASSWORD),)


class SignIn:
    """Starts the sessions of browsers; every method runs synchronously, and may be called from any thread."""

    def __init__(
        self, database: Database, login: PasswordLogin, sessions: BrowserSessionStore, families: FamilyStore
    ) -> None:
        self._database = database
        self._login = login
        self._sessions = sessions
        self._families = families

    def check(self, username: str, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts if the password would not be verified. Count nothing."""
        self._login.check(username, origin, now)

    def authenticate(
        self,
        username: str,
        password: str,
        current: BrowserSession | None,
        origin: Origin,
        now: datetime,
        *,
        is_remembered: bool = False,
    ) -> str:
        """Verify a password and return the secret of the session; raise LoginFailed or TooManyAttempts.

        `current` is the session that the browser has.
        """

        def start(authenticated: AuthenticatedUser) -> str:
            user, proof = authenticated.user, authenticated.password
            return self.start(user, proof, current, origin, now, is_remembered=is_remembered)[1]

        return self._login.authenticate(username, password, origin, now, start)

    def start(
        self,
        user: User,
        password: VerifiedPassword,
        current: BrowserSession | None,
        origin: Origin,
        now: datetime,
        *,
        is_remembered: bool = False,
    ) -> tuple[BrowserSession, str]:
        """Return the session of an authenticated user, and its new secret; raise AccountChanged.

        The session that the browser has continues if it is of the same user, with a new secret in any case: another
        person may know the old one (session fixation). If it is of another user, it ends, with the refresh tokens
        that depend on it.
        """
        started = self._started(user, password, current, origin, now, is_remembered=is_remembered)
        log.info("signed in", user=user.id, session=started[0].id)
        return started

    def _started(
        self,
        user: User,
        password: VerifiedPassword,
        current: BrowserSession | None,
        origin: Origin,
        now: datetime,
        *,
        is_remembered: bool,
    ) -> tuple[BrowserSession, str]:
        acr, amr = BY_PASSWORD
        if current is not None and current.user_id == user.id:
            again = self._again(current, password, now, is_remembered=is_remembered)
            if again is not None:
                return again
        started = self._sessions.start(user.id, password, acr, amr, origin, now, is_remembered=is_remembered)
        if started is None:
            raise AccountChanged
        if current is not None:
            self._families.end_browser_session(current.id, now)
        return started

    def _again(
        self, current: BrowserSession, password: VerifiedPassword, now: datetime, *, is_remembered: bool
    ) -> tuple[BrowserSession, str] | None:
        """Return the session, authenticated again, with its new secret; None if it has ended.

        What ends with it does so no later than the session itself, whose end may come nearer.
        """
        acr, amr = BY_PASSWORD
        until = self._sessions.end(now, is_remembered=is_remembered)
        with self._database.together():
            secret = self._sessions.authenticate_again(
                current, password, acr, amr, now, is_remembered=is_remembered
            )
            if secret is None:
                return None
            self._families.end_with(current.id, until)
        session = replace(
            current, auth_time=now, chosen_at=now, acr=acr, amr=amr, seen_at=now, expires_at=until
        )
        return session, secret
