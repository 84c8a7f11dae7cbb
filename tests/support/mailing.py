"""An issuer that sends mails to a real server, and users with an address."""

from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from urllib.parse import urlsplit

from pydantic import SecretStr

from issuer.accounts.profile import Profile
from issuer.accounts.registration import register_user
from issuer.accounts.user import User
from issuer.database.work_queue import Round
from issuer.services import Issuer
from issuer.settings.settings import Settings
from support.defaults import PASSWORD
from support.mail_server import MailServer, link_in

FROM = "accounts@issuer.example"


def sending(settings: Settings, server: MailServer) -> Settings:
    """Return settings with which mails are sent to a server."""
    return settings.model_copy(update={"smtp_url": SecretStr(server.url), "mail_from": FROM})


def a_user(
    issuer: Issuer, name: str = "alice", email: str = "alice@example.com", *, is_verified: bool = True
) -> User:
    """Return a user with an address."""
    profile = Profile(None, email, is_verified)
    accounts = issuer.accounts
    return register_user(accounts.store, accounts.passwords, name, PASSWORD, issuer.clock(), profile=profile)


def deliver(issuer: Issuer, rounds: int = 3) -> Round:
    """Send what is due, as the background task does; return what became of all."""
    delivery = issuer.administration.mail_delivery
    assert delivery
    total = Round()
    for _ in range(rounds):
        sent = delivery.deliver_due(issuer.clock())
        total = replace(
            total,
            delivered=total.delivered + sent.delivered,
            failed=total.failed + sent.failed,
            given_up=total.given_up + sent.given_up,
        )
        if not sent.is_full:
            break
    return total


def path_in(message: EmailMessage) -> str:
    """Return path and query of the link in a message."""
    link = urlsplit(link_in(message))
    return f"{link.path}?{link.query}"


def later(issuer: Issuer, span: timedelta) -> Round:
    """Send what is due after a while."""
    delivery = issuer.administration.mail_delivery
    assert delivery
    return delivery.deliver_due(issuer.clock() + span)
