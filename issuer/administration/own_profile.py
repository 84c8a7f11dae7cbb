"""What users change of their profile: name and e-mail address.

Which values are accepted is decided in `accounts.profile`; what operators change is in `users`.
"""

from datetime import datetime

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.login import AccountChanged, AuthenticatedUser, PasswordLogin
from issuer.accounts.profile import require_profile
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.user_mails import UserMails
from issuer.administration.users import change_profile
from issuer.audit.event import Event, EventAction, by_user
from issuer.database.database import Database
from issuer.oauth import InvalidRequest
from issuer.throttling.origin import Origin


class OwnProfile:
    """Changes the profile of a user."""

    def __init__(
        self, database: Database, accounts: AccountStore, login: PasswordLogin, mails: UserMails
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._login = login
        self._mails = mails

    def needs_password(self, user: User, email: str | None) -> bool:
        """Return whether the address would change at once; raise InvalidRequest.

        Where mails are sent, another one is stored when the user has confirmed it, with the password.
        """
        wanted = require_profile(None, email).email
        return email is not None and wanted != user.email and not (wanted and self._mails.is_on)

    def change(self, user: User, now: datetime, *, name: str | None = None, email: str | None = None) -> User:
        """Change what is not None, and return the user; an empty text removes.

        Raise InvalidRequest, also for what needs the password; TooManyAttempts for too many mails to an address.
        """
        wanted = require_profile(name, email)
        if self.needs_password(user, email):
            raise InvalidRequest("the password is missing, which this change of the address needs")
        if wanted.email and self._mails.is_on and (wanted.email != user.email or not user.email_verified):
            self._mails.confirm_address(user, wanted.email, now)
        if name is None or wanted.name == user.name:
            return user
        return change_profile(self._accounts, self._mails, user, now, _changed(user, now), name=name)

    def change_address(
        self, user: User, password: str, origin: Origin, now: datetime, *, name: str | None, email: str
    ) -> User:
        """Do the same for a change that needs the password; raise LoginFailed or TooManyAttempts for a wrong one."""
        require_profile(name, email)

        def store(authenticated: AuthenticatedUser) -> User:
            event = _changed(user, now)
            with self._database.together():
                with self._database.write() as connection:
                    if not lock_enabled(connection, user.id, authenticated.password):
                        raise AccountChanged
                return change_profile(self._accounts, self._mails, user, now, event, name=name, email=email)

        return self._login.authenticate(user.username, password, origin, now, store)


def _changed(user: User, now: datetime) -> Event:
    return Event(now, by_user(user.id), EventAction.PROFILE_CHANGED, user.id)
