"""What users do with their own account: change the password, delete the account.

Both ask for the password, which is verified by `accounts.login`; what operators do is in `users`, what is deleted in
`account_deletion`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import delete

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.login import AccountChanged, AuthenticatedUser, PasswordLogin
from issuer.accounts.passwords import COMMON, Passwords
from issuer.accounts.user import User, VerifiedPassword, account_name, require_password
from issuer.administration.account_deletion import delete_account
from issuer.administration.user_mails import UserMails
from issuer.audit.event import Event, EventAction, by_user
from issuer.authorize.code_store import authorization_codes
from issuer.database.database import Database
from issuer.sessions.session import Acr, Amr, BrowserSession
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.account_limits import AccountLimitStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family

T = TypeVar("T")


class OwnAccount:
    """Changes the account of a user who is signed in with a browser, or with an application that may do so."""

    def __init__(
        self,
        database: Database,
        login: PasswordLogin,
        passwords: Passwords,
        sessions: BrowserSessionStore,
        store: FamilyStore,
        user_mails: UserMails,
    ) -> None:
        self._database = database
        self._login = login
        self._passwords = passwords
        self._sessions = sessions
        self._families = store
        self._mails = user_mails

    def check(self, user: User, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts for an attempt that any password would fail, before it waits for a hashing thread."""
        self._login.check(user.username, origin, now)

    def check_change(self, user: User, new: str, origin: Origin, now: datetime) -> None:
        """Do the same for a change of the password; raise InvalidRequest for a new one that is refused."""
        require_password(new, user.username, COMMON)
        self.check(user, origin, now)

    def change_password(
        self, user: User, session: BrowserSession, password: str, new: str, origin: Origin, now: datetime
    ) -> str:
        """Change the password; end all sessions but this one, void all codes, and return its new secret.

        Raise InvalidRequest for a new password that is refused, LoginFailed or TooManyAttempts for a wrong one.
        """

        def change(proof: VerifiedPassword, new_hash: str) -> str:
            secret = self._sessions.authenticate_again(
                session,
                proof,
                Acr.PASSWORD,
                (Amr.PASSWORD,),
                now,
                is_remembered=session.is_remembered,
                action=EventAction.PASSWORD_CHANGED,
            )
            if secret is None:
                raise AccountChanged
            self._families.set_password_hash(user.id, new_hash, now, spared=session.id)
            return secret

        return self._changed(user, password, new, origin, now, change)

    def change_password_of_caller(
        self, user: User, family: Family, password: str, new: str, origin: Origin, now: datetime
    ) -> None:
        """Do the same for an application: its session stays valid, all others end.

        The browser session that it ends with stays, too, but nobody has its secret any more: the browser signs in
        again. Whoever has a copy of the old cookie could otherwise use it after the change.
        """

        def change(proof: VerifiedPassword, new_hash: str) -> None:
            with self._database.write() as connection:
                if not lock_enabled(connection, user.id, proof):
                    raise AccountChanged
            session = family.browser_session
            if session is not None:
                self._sessions.void_secret(session)
            changed = Event(now, by_user(user.id), EventAction.PASSWORD_CHANGED, user.id)
            self._families.set_password_hash(
                user.id, new_hash, now, spared=session, family=family.id, events=[changed]
            )

        self._changed(user, password, new, origin, now, change)

    def _changed(
        self,
        user: User,
        password: str,
        new: str,
        origin: Origin,
        now: datetime,
        change: Callable[[VerifiedPassword, str], T],
    ) -> T:
        """Return what `change` returns for the verified password and the hash of the new one; void all codes."""
        chosen = require_password(new, user.username, COMMON)

        def then(authenticated: AuthenticatedUser) -> T:
            new_hash = self._passwords.hash(chosen)
            with self._database.together():
                result = change(authenticated.password, new_hash)
                self._void_codes(user.id)
                self._mails.password_changed(user, now)
            return result

        return self._authenticated(user, password, origin, now, then)

    def _void_codes(self, user_id: str) -> None:
        """Delete the codes that no client has redeemed: whoever knew the old secret of this session may have some."""
        unused = authorization_codes.c.user_id == user_id, authorization_codes.c.used_at.is_(None)
        with self._database.write() as connection:
            connection.execute(delete(authorization_codes).where(*unused))

    def delete(self, user: User, password: str, origin: Origin, now: datetime) -> None:
        """Delete the account and everything that is stored of the user; raise LoginFailed or TooManyAttempts.

        The id is never given to another account, the name not for a while, and clients are told that the user has
        signed out.
        """

        def remove(authenticated: AuthenticatedUser) -> None:
            if not delete_account(self._database, user.id, authenticated.password, now):
                raise AccountChanged

        self._authenticated(user, password, origin, now, remove)
        # The log-in has remembered the device again.
        AccountLimitStore(self._database).forget(account_name(user.username))

    def _authenticated(
        self,
        user: User,
        password: str,
        origin: Origin,
        now: datetime,
        then: Callable[[AuthenticatedUser], T],
    ) -> T:
        return self._login.authenticate(user.username, password, origin, now, then)
