"""Links with which users choose a password, a new one or the first: valid once, and for an hour or as asked.

Nothing is stored: a link is bound to the hash of the password that it replaces. The page is `web.pages.reset`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from itsdangerous import BadSignature, URLSafeSerializer

from issuer.accounts.account_lock import lock_enabled
from issuer.accounts.passwords import COMMON, Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, VerifiedPassword, require_password
from issuer.administration.user_mails import UserMails
from issuer.audit.event import Event, EventAction, by_user
from issuer.authorize.ticket import SIGNATURE, Secrets
from issuer.database.database import Database
from issuer.digests import digest
from issuer.oauth import InvalidGrant
from issuer.tokens.family_store import FamilyStore

LINK_LIFETIME = timedelta(hours=1)
LONGEST_LIFETIME = timedelta(days=28)
"""The secrets that sign links are accepted until the end of the month after."""


class ResetLinks:
    """Makes and redeems the tokens of links."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        accounts: AccountStore,
        families: FamilyStore,
        passwords: Passwords,
        mails: UserMails,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._accounts = accounts
        self._families = families
        self._passwords = passwords
        self._mails = mails

    def token(
        self, user: User, now: datetime, lifetime: timedelta = LINK_LIFETIME, *, proves: str = ""
    ) -> str:
        """Return the token of a link with which a user may choose a password.

        It `proves` that an address is the user's if it is sent there only.
        """
        until = (now + min(lifetime, LONGEST_LIFETIME)).timestamp()
        return self._serializer(now).dumps([user.id, digest(user.password_hash).hex(), until, proves])

    def user(self, token: str, now: datetime) -> User:
        """Return the user of a link.

        Raise InvalidGrant if it has expired, was changed or used, or the account is disabled, or has another password
        or another address than that which the link was sent to.
        """
        return self._find(token, now)[0]

    def _find(self, token: str, now: datetime) -> tuple[User, str]:
        """Return the user of a link and the address that it proves."""
        try:
            user_id, replaces, until, proves = self._serializer(now).loads(token)
        except BadSignature:
            raise _not_valid() from None
        user = self._accounts.by_id(user_id) if now.timestamp() < until else None
        if user is None or user.disabled_at is not None or digest(user.password_hash).hex() != replaces:
            raise _not_valid()
        if proves and user.email != proves:  # it was sent to an address that is no longer the user's
            raise _not_valid()
        return user, proves

    def check(self, token: str, new: str, now: datetime) -> None:
        """Raise the errors of `set_password` that need no hashing."""
        require_password(new, self.user(token, now).username, COMMON)

    def set_password(self, token: str, new: str, now: datetime) -> None:
        """Change the password and end all sessions of the user; raise InvalidGrant, or InvalidRequest for `new`."""
        user, proves = self._find(token, now)
        new_hash = self._passwords.hash(require_password(new, user.username, COMMON))
        with self._database.together():
            with self._database.write() as connection:
                # Another request with the same link may have changed the password meanwhile.
                if not lock_enabled(connection, user.id, VerifiedPassword(user.password_hash)):
                    raise _not_valid()
            action, detail = EventAction.PASSWORD_CHANGED, "with a reset link"
            event = Event(now, by_user(user.id), action, user.id, detail=detail)
            self._families.set_password_hash(user.id, new_hash, now, events=[event])
            if proves:
                self._accounts.change(user.id, partial(_verified, proves, now))
            if user.invited_at is None:
                self._mails.password_changed(user, now)

    def _serializer(self, now: datetime) -> URLSafeSerializer:
        return URLSafeSerializer(self._secrets(now), salt="reset", signer_kwargs=SIGNATURE)


def _verified(address: str, now: datetime, user: User) -> Mapping[str, object]:
    """Return what is stored of a user for whom an address is proved."""
    return {"email_verified": True, "updated_at": now} if user.email == address else {}


def _not_valid() -> InvalidGrant:
    return InvalidGrant("the link is not valid: it was used, or has expired; ask for a new one")
