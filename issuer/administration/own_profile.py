"""What users change of their profile: name and e-mail address.

Which values are accepted is decided in `accounts.profile`; what operators change is in `users`.
"""

from datetime import datetime

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.users import change_profile


class OwnProfile:
    """Changes the profile of a user."""

    def __init__(self, accounts: AccountStore) -> None:
        self._accounts = accounts

    def change(self, user: User, now: datetime, *, name: str | None = None, email: str | None = None) -> User:
        """Change what is not None, and return the user; an empty text removes. Raise InvalidRequest."""
        return change_profile(self._accounts, user, now, name=name, email=email)
