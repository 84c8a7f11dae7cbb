"""URLs of SMTP servers: which are accepted, and what they mean."""

import pytest

from issuer.mail.server import MailServer, Security, parse_smtp_url


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", MailServer("mail.example", 587, Security.STARTTLS)),
        ("smtps://mail.example/", MailServer("mail.example", 465, Security.TLS)),
        ("smtp://mail.example:25?starttls=off", MailServer("mail.example", 25, Security.NONE)),
        ("smtp://localhost", MailServer("localhost", 25, Security.NONE)),
        ("smtp://127.0.0.1:2525", MailServer("127.0.0.1", 2525, Security.NONE)),
        ("smtp://[::1]?starttls=on", MailServer("::1", 587, Security.STARTTLS)),
        (
            "smtps://me%40example.com:p%3A%2F@mail.example:4650",
            MailServer("mail.example", 4650, Security.TLS, "me@example.com", "p:/"),
        ),
        ("smtp://me:x@localhost", MailServer("localhost", 25, Security.NONE, "me", "x")),
    ],
)
def test_a_url_names_host_port_protection_and_user(url: str, server: MailServer) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mail.example", "of the form"),
        ("http://mail.example", "of the form"),
        ("smtp://", "of the form"),
        ("smtp://mail.example:0", "of the form"),
        ("smtp://mail.example:x", "of the form"),
        ("smtp://mail.example/path", "of the form"),
        ("smtp://mail.example?tls=on", "of the form"),
        ("smtp://mail.example?starttls", "of the form"),
        ("smtp://mail.example#x", "of the form"),
        ("smtp://mail.example?starttls=perhaps", "starttls=on or"),
        ("smtps://mail.example?starttls=on", "starttls=on or"),
        ("smtp://hidden@mail.example", "not both"),
        ("smtp://me:hidden@mail.example?starttls=off", "plain text"),
        ("smtps://me:hidden%C3%A9@mail.example", "other than ASCII"),
    ],
)
def test_other_urls_are_refused_with_the_reason_and_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_smtp_url(url)
    assert "hidden" not in str(refused.value)


def test_the_password_is_not_shown() -> None:
    assert "hidden" not in repr(parse_smtp_url("smtps://me:hidden@mail.example"))
