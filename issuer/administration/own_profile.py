"""What users change of their profile: name and e-mail address.

Which values are accepted is decided in `accounts.profile`; what operators change is in `users`.
"""

from datetime import datetime

from issuer.accounts.profile import require_profile
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.user_mails import UserMails
from issuer.administration.users import change_profile


class OwnProfile:
    """Changes the profile of a user."""

    def __init__(self, accounts: AccountStore, mails: UserMails) -> None:
        self._accounts = accounts
        self._mails = mails

    def change(self, user: User, now: datetime, *, name: str | None = None, email: str | None = None) -> User:
        """Change what is not None, and return the user; an empty text removes. Raise InvalidRequest.

        Where mails are sent, an address is stored when the user has confirmed it, and the one before gets a notice:
        it is the way to another password. Raise TooManyAttempts for too many of them.
        """
        wanted = require_profile(name, email).email
        if self._mails.is_on and wanted is not None:
            email = None
            if wanted != user.email or not user.email_verified:
                self._mails.confirm_address(user, wanted, now)
        elif email is not None and wanted is None and user.email:
            self._mails.address_changed(user, now)
        if name is None and email is None:
            return user
        return change_profile(self._accounts, user, now, name=name, email=email)
