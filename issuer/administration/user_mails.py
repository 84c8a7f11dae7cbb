"""Which mails users are sent, and on what occasion: queued in the outbox, so that no request waits for a mail server.

Their texts and links are made by `mail_delivery`. Notices go to addresses that are known to be the user's only:
another one may be that of a stranger.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from issuer.accounts.profile import EMAIL_MOST_CHARACTERS
from issuer.accounts.user import User
from issuer.database.errors import StoreError
from issuer.mail.outbox import MailKind, Outbox
from issuer.oauth import TooManyAttempts
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin
from issuer.throttling.user_agents import device_of

log = structlog.get_logger("issuer.mail")


class UserMails:
    """Queues mails; without an outbox it queues none."""

    def __init__(self, outbox: Outbox | None, guard: Guard) -> None:
        self._outbox = outbox
        self._guard = guard

    @property
    def is_on(self) -> bool:
        """Whether mails are sent."""
        return self._outbox is not None

    def request_reset(self, typed: str, origin: Origin, now: datetime) -> None:
        """Queue a search for the accounts of a name or address; raise TooManyAttempts.

        Nothing here depends on whether there is one, so that neither the response nor its time tells.
        """
        self._guard.request_reset(origin, now)
        name = "".join(filter(str.isprintable, typed[:EMAIL_MOST_CHARACTERS]))
        self._add(MailKind.RESET_REQUEST, None, name, now)

    def invite(self, user: User, lifetime: timedelta, now: datetime) -> None:
        """Queue the link of an invitation; the user has an address."""
        details = {"seconds": int(lifetime.total_seconds())}
        self._add(MailKind.INVITATION, user.id, user.email or "", now, details)

    def confirm_address(self, user: User, address: str, now: datetime) -> None:
        """Queue a link with which the user confirms another address; raise TooManyAttempts."""
        self._guard.request_mail(MailKind.CONFIRM_ADDRESS, user.id, address, now)
        self._add(MailKind.CONFIRM_ADDRESS, user.id, address, now)

    def password_changed(self, user: User, now: datetime) -> None:
        """Queue a notice; in the transaction of the change, if there is one."""
        self._notify(MailKind.PASSWORD_CHANGED, user, now)

    def address_changed(self, user: User, now: datetime) -> None:
        """Queue a notice to the address that `user` has had."""
        self._notify(MailKind.ADDRESS_CHANGED, user, now)

    def new_device(self, user: User, origin: Origin, now: datetime) -> None:
        """Queue a notice of a sign-in, of which each account gets a few an hour.

        A failure is logged, as the user has signed in.
        """
        if self._outbox is None or not (user.email and user.email_verified):
            return
        details = {"device": device_of(origin.user_agent), "address": origin.address or "unknown"}
        try:
            self._guard.request_mail(MailKind.NEW_DEVICE, user.id, user.email, now)
            self._notify(MailKind.NEW_DEVICE, user, now, details)
        except TooManyAttempts:
            log.warning(
                "mail not queued", kind=MailKind.NEW_DEVICE, user=user.id, reason="too many of this kind"
            )
        except StoreError as error:
            log.warning("mail not queued", kind=MailKind.NEW_DEVICE, user=user.id, reason=str(error))

    def _notify(
        self, kind: MailKind, user: User, now: datetime, details: Mapping[str, str] | None = None
    ) -> None:
        if user.email and user.email_verified:
            self._add(kind, user.id, user.email, now, details)

    def _add(
        self,
        kind: MailKind,
        user_id: str | None,
        recipient: str,
        now: datetime,
        details: Mapping[str, str | int] | None = None,
    ) -> None:
        if self._outbox and not self._outbox.add(kind, user_id, recipient, now, details):
            log.error("mail not queued", kind=kind, reason="too many mails are due")
