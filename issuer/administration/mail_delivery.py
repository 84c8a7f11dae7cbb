"""Sends the mails that are due: looks up whom they are for, makes their links, and hands them to the mail server.

Mails are queued by `user_mails`; the rounds are started by a background task.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.address_links import LINK_LIFETIME as ADDRESS_LIFETIME
from issuer.administration.address_links import AddressLinks
from issuer.administration.reset_links import LINK_LIFETIME, ResetLinks
from issuer.database.database import Database
from issuer.database.errors import StoreError
from issuer.database.work_queue import Round
from issuer.mail.messages import compose
from issuer.mail.outbox import ATTEMPTS_MOST, Mail, MailKind, Outbox
from issuer.oauth import TooManyAttempts
from issuer.settings.settings import Settings
from issuer.throttling.guard import Guard

AT_ONCE = 20
"""Mails of one round."""
ACCOUNTS_MOST = 5
"""Of one address that a reset is sent for."""
FRESH = timedelta(hours=1)
"""An older mail is not sent any more: the database was away, or mail was off."""

if TYPE_CHECKING:
    from issuer.mail.smtp import MailSender

log = structlog.get_logger("issuer.mail")


@dataclass(frozen=True)
class Letterhead:
    """What all mails of an issuer have in common."""

    name: str
    address: str
    """Of the sender."""
    url: str


class MailDelivery:
    """Sends mails."""

    def __init__(
        self,
        outbox: Outbox,
        accounts: AccountStore,
        guard: Guard,
        reset_links: ResetLinks,
        address_links: AddressLinks,
        sender: "MailSender",
        letterhead: Letterhead,
    ) -> None:
        self._outbox = outbox
        self._accounts = accounts
        self._guard = guard
        self._reset_links = reset_links
        self._address_links = address_links
        self._sender = sender
        self._letterhead = letterhead

    def deliver_due(self, now: datetime) -> Round:
        """Send the due mails, at most `AT_ONCE`; raise StoreError.

        A mail to an account that was deleted or disabled is dropped.
        """
        if not self._outbox.is_any_due(now):
            return Round()
        taken, damaged = self._outbox.claim(now, AT_ONCE)
        for error in damaged:
            log.error("damaged mail", reason=str(error))
        interrupted = [mail for mail in taken if mail.attempts > ATTEMPTS_MOST]
        timely = [mail for mail in taken if mail.attempts <= ATTEMPTS_MOST]
        current = [mail for mail in timely if abs(now - mail.created_at) < FRESH]
        for mail in timely:
            if mail not in current:
                log.warning("mail too old", kind=mail.kind, user=mail.user_id)
        requests = [mail for mail in current if mail.kind is MailKind.RESET_REQUEST]
        self._resolve(requests, now)
        messages = {mail.id: message for mail in current if (message := self._composed(mail, now))}
        outcomes = dict(
            zip(messages, self._sender.send(list(messages.values())) if messages else [], strict=True)
        )
        reasons = {mail_id: outcome.reason for mail_id, outcome in outcomes.items() if outcome.reason}
        finals = {mail_id for mail_id, outcome in outcomes.items() if outcome.is_final}
        given_up = [mail for mail in current if mail.id in finals or _is_last(mail, reasons)]
        _log_failures(reasons, [*interrupted, *given_up], taken)
        # The others stay, and are due again when the wait is over.
        self._outbox.remove(each for each in taken if each.id not in reasons or each in given_up)
        return Round(
            delivered=len(outcomes) - len(reasons),
            failed=len(reasons) - len(given_up),
            given_up=len(given_up) + len(interrupted),
            is_full=len(taken) == AT_ONCE or bool(requests),
        )

    def _resolve(self, requests: Iterable[Mail], now: datetime) -> None:
        """Replace requests by mails to the accounts that were meant, within the limit of each account."""
        for request in requests:
            for user in self._accounts_of(request.recipient):
                address = user.email or ""
                with suppress(TooManyAttempts):
                    self._guard.request_mail(MailKind.RESET, user.id, address, now)
                    self._outbox.add(MailKind.RESET, user.id, address, now)

    def _accounts_of(self, typed: str) -> list[User]:
        """Return the accounts of a name or an address that can be reached by mail."""
        by_name = self._accounts.by_username(typed)
        found = [by_name] if by_name and by_name.email_verified else []
        found += self._accounts.by_email(typed, ACCOUNTS_MOST) if "@" in typed else []
        return [user for user in {user.id: user for user in found}.values() if user.disabled_at is None]

    def _composed(self, mail: Mail, now: datetime) -> EmailMessage | None:
        """Return the message of a mail; None, so that it is dropped, if there is none."""
        try:
            return self._message(mail, now)
        except StoreError:
            raise
        except Exception:  # whatever one mail causes, the others are sent
            log.exception("cannot compose a mail", kind=mail.kind, user=mail.user_id)
            return None

    def _message(self, mail: Mail, now: datetime) -> EmailMessage | None:
        """Return a message with its links; None if it is not to be sent any more."""
        user = self._accounts.by_id(mail.user_id) if mail.user_id else None
        if user is None or user.disabled_at is not None:
            return None
        values = self._values(mail, user, now)
        if values is None:
            return None
        head = self._letterhead
        common = {"username": user.username, "url": f"{head.url}/account", "at": _in_words(mail.created_at)}
        return compose(mail.kind, (head.name, head.address), mail.recipient, now, {**common, **values})

    def _values(self, mail: Mail, user: User, now: datetime) -> Mapping[str, Any] | None:
        details = mail.values()
        match mail.kind:
            case MailKind.RESET if user.email == mail.recipient and user.email_verified:
                token = self._reset_links.token(user, now, proves=mail.recipient)
                return self._link("reset", token, LINK_LIFETIME)
            case MailKind.INVITATION if user.email == mail.recipient and user.invited_at is not None:
                lifetime = timedelta(seconds=details["seconds"])
                token = self._reset_links.token(user, now, lifetime, proves=mail.recipient)
                return self._link("reset", token, lifetime)
            case MailKind.CONFIRM_ADDRESS:
                token = self._address_links.token(user, mail.recipient, now)
                return self._link("confirm-address", token, ADDRESS_LIFETIME)
            case MailKind.PASSWORD_CHANGED | MailKind.ADDRESS_CHANGED | MailKind.NEW_DEVICE:
                return details
        return None

    def _link(self, page: str, token: str, lifetime: timedelta) -> dict[str, str]:
        return {"link": f"{self._letterhead.url}/{page}?token={token}", "valid": _span(lifetime)}


def delivery_for(
    settings: Settings,
    database: Database,
    accounts: AccountStore,
    guard: Guard,
    reset_links: ResetLinks,
    address_links: AddressLinks,
) -> MailDelivery | None:
    """Return what sends mails; None if no server is set."""
    server = settings.mail_server
    if server is None:
        return None
    from issuer.mail.smtp import SmtpSender  # noqa: PLC0415 - slow to import, and few commands need it

    host = urlsplit(settings.url).hostname or "localhost"
    sender = SmtpSender(server, host, settings.trusted_authorities())
    letterhead = Letterhead(settings.name, settings.sender(host), settings.url)
    outbox = Outbox(database)
    return MailDelivery(outbox, accounts, guard, reset_links, address_links, sender, letterhead)


def _is_last(mail: Mail, reasons: Mapping[str, str]) -> bool:
    return mail.attempts == ATTEMPTS_MOST and mail.id in reasons


def _log_failures(reasons: Mapping[str, str], given_up: Iterable[Mail], taken: Iterable[Mail]) -> None:
    """Log what was not sent, without addresses."""
    lost = {mail.id for mail in given_up}
    for mail in taken:
        if mail.id in lost:
            reason = reasons.get(mail.id, "the process ended during it")
            log.error("mail given up", kind=mail.kind, user=mail.user_id, reason=reason)
        elif mail.id in reasons:
            log.warning("mail not sent", kind=mail.kind, user=mail.user_id, reason=reasons[mail.id])


def _in_words(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _span(span: timedelta) -> str:
    """Return a duration in the largest unit in which it is a whole number."""
    seconds = int(span.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            number = seconds // length
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{seconds} seconds"
