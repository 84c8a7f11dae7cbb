"""Mails over a real SMTP server: TLS, STARTTLS, authentication, and what becomes of refused messages."""

import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from support.certificates import certificate
from support.defaults import START
from support.mail_server import PASSWORD, USER, MailServer, mail_server, text_of

from issuer.mail.messages import compose
from issuer.mail.outbox import MailKind
from issuer.mail.server import parse_smtp_url
from issuer.mail.smtp import SENT, Outcome, SmtpSender

VALUES = {"username": "älice", "url": "https://issuer.example/account", "at": "1 January 2026, 00:00 UTC"}


def a_mail(to: str = "alice@example.com") -> EmailMessage:
    sender = "Konten für alle", "accounts@issuer.example"
    return compose(MailKind.PASSWORD_CHANGED, sender, to, START, VALUES)


def send(url: str, *messages: EmailMessage, authorities: ssl.SSLContext | None = None) -> list[Outcome]:
    return SmtpSender(parse_smtp_url(url), "localhost", authorities).send(messages or [a_mail()])


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path))
    return context


@pytest.fixture
def authorities(tmp_path: Path, context: ssl.SSLContext) -> ssl.SSLContext:
    del context
    return ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))


def test_a_mail_arrives_as_plain_text_of_any_alphabet(server: MailServer) -> None:
    assert send(server.url) == [SENT]
    (message,) = server.messages
    assert str(message["From"]) == "Konten für alle <accounts@issuer.example>"
    assert (message["To"], message["Subject"]) == ("alice@example.com", "Your password was changed")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert str(message["Message-ID"]).endswith("@issuer.example>")
    assert message.get_content_type() == "text/plain"
    assert "The password of the account älice at Konten für alle was changed" in text_of(message)


def test_several_mails_share_a_connection_and_a_refused_one_does_not_stop_the_others(
    server: MailServer,
) -> None:
    server.refused = {"gone@example.com": "550", "full@example.com": "452"}
    to = ("a@example.com", "gone@example.com", "full@example.com", "b@example.com")
    outcomes = send(server.url, *map(a_mail, to))
    assert outcomes == [
        SENT,
        Outcome("the server refused the recipient with 550", is_final=True),
        Outcome("the server refused the recipient with 452"),
        SENT,
    ]
    assert server.recipients() == ["a@example.com", "b@example.com"]


def test_a_temporary_failure_is_not_final(server: MailServer) -> None:
    server.failing = True
    assert send(server.url) == [Outcome("the server answered 451")]


def test_a_server_that_does_not_run_is_a_reason_for_each_mail(server: MailServer) -> None:
    with mail_server() as stopped:
        pass
    assert send(stopped.url, a_mail(), a_mail()) == 2 * [Outcome("Connection refused")]


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
def test_user_and_password_are_sent_over_tls(
    scheme: str, context: ssl.SSLContext, authorities: ssl.SSLContext
) -> None:
    contexts = {"tls": context} if scheme == "smtps" else {"starttls": context}
    with mail_server(**contexts, authenticates=True) as server:
        option = "" if scheme == "smtps" else "?starttls=on"
        where = f"127.0.0.1:{server.port}{option}"
        assert send(f"{scheme}://{USER}:p%40ss%2Fword@{where}", authorities=authorities) == [SENT]
        assert PASSWORD == "p@ss/word"
        (wrong,) = send(f"{scheme}://{USER}:wrong@{where}", authorities=authorities)
        assert wrong == Outcome("the server refused user and password")
        (unknown,) = send(f"{scheme}://{USER}:wrong@{where}")
        assert unknown.reason.startswith("the certificate of the server is not valid")
        assert len(server.messages) == 1


def test_nothing_is_sent_to_a_server_without_starttls_if_that_is_demanded(server: MailServer) -> None:
    (outcome,) = send(f"{server.url}?starttls=on")
    assert outcome == Outcome("the server does not offer STARTTLS or authentication")
    assert server.messages == []
