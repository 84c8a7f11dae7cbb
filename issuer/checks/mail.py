"""Checks of the mail server: whether it can be reached, and accepts user and password; nothing is sent."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from issuer.checks.finding import Finding, problem
from issuer.fixes import Fix, Kind
from issuer.mail.server import MailServer
from issuer.settings.settings import Settings

REPLY_SECONDS = 5.0
LINE = "ISSUER_SMTP_URL=smtps://USER:PASSWORD@HOST:PORT"


def server(settings: Settings, mail_server: MailServer) -> Iterator[Finding]:
    """Yield a problem if mails cannot be handed over to the server."""
    from issuer.mail.smtp import SmtpSender  # noqa: PLC0415 - slow to import, and most installations send no mail

    own_name = urlsplit(settings.url).hostname or "localhost"
    reason = SmtpSender(mail_server, own_name, settings.trusted_authorities(), REPLY_SECONDS).failure()
    if reason:
        where = f"{mail_server.host}:{mail_server.port}"
        yield problem(
            f"the mail server {where} cannot be used, so users get no mail: {reason}",
            Fix(Kind.MAIL_SERVER, LINE),
        )
