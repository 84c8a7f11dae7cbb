"""Links with which users confirm a new e-mail address: they prove the address, and the password proves the user.

Nothing is stored: a link names the address, and is bound to the one that it replaces. The page is `pages.address`.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.login import AccountChanged, AuthenticatedUser, PasswordLogin
from issuer.accounts.profile import Profile
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.user_mails import UserMails
from issuer.audit.event import Event, EventAction, by_user
from issuer.authorize.ticket import SIGNATURE, Secrets
from issuer.database.database import Database
from issuer.oauth import InvalidGrant
from issuer.throttling.origin import Origin

LINK_LIFETIME = timedelta(hours=24)


class Confirmation(NamedTuple):
    """What a link confirms."""

    user: User
    address: str


class AddressLinks:
    """Makes and redeems the tokens of links."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        accounts: AccountStore,
        login: PasswordLogin,
        mails: UserMails,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._accounts = accounts
        self._login = login
        self._mails = mails

    def token(self, user: User, address: str, now: datetime) -> str:
        """Return the token of a link to be sent to an address."""
        until = (now + LINK_LIFETIME).timestamp()
        return self._serializer(now).dumps([user.id, address, user.email or "", until])

    def find(self, token: str, now: datetime) -> Confirmation:
        """Return what a link confirms.

        Raise InvalidGrant if it has expired, was changed or used, or the account has another address or is disabled.
        """
        try:
            user_id, address, replaces, until = self._serializer(now).loads(token)
        except BadSignature:
            raise _not_valid() from None
        user = self._accounts.by_id(user_id) if now.timestamp() < until else None
        if user is None or user.disabled_at is not None or (user.email or "") != replaces:
            raise _not_valid()
        if user.email == address and user.email_verified:
            raise _not_valid()
        return Confirmation(user, address)

    def check(self, user: User, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts for an attempt that any password would fail, before it waits for a hashing thread."""
        self._login.check(user.username, origin, now)

    def confirm(self, token: str, password: str, origin: Origin, now: datetime) -> None:
        """Store the address as the user's; raise InvalidGrant, LoginFailed or TooManyAttempts.

        The address before gets a notice: whoever has the password could otherwise change it unnoticed.
        """
        user, address = self.find(token, now)

        def store(authenticated: AuthenticatedUser) -> None:
            with self._database.together():
                with self._database.write() as connection:
                    if not lock_enabled(connection, user.id, authenticated.password):
                        raise AccountChanged
                known, _ = self.find(token, now)  # again, as it is while it is locked
                if known.email != address:
                    self._mails.address_changed(known, now)
                changed = Event(now, by_user(known.id), EventAction.PROFILE_CHANGED, known.id)
                profile = Profile(known.name, address, email_verified=True)
                self._accounts.set_profile(known.id, profile, now, changed)

        self._login.authenticate(user.username, password, origin, now, store)

    def _serializer(self, now: datetime) -> URLSafeSerializer:
        return URLSafeSerializer(self._secrets(now), salt="address", signer_kwargs=SIGNATURE)


def _not_valid() -> InvalidGrant:
    return InvalidGrant("the link is not valid: it was used, or has expired; enter the address again")
