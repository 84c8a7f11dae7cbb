"""Sends mails to the SMTP server of the installation, RFC 5321; several in one connection.

Who is sent what is decided in `administration.mail_delivery`. Reasons of failures name no address: they are logged.
"""

import smtplib
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol

from issuer.mail.server import MailServer, Security

REPLY_SECONDS = 10.0
"""How long to wait for a connection or a reply of the server."""
ROUND_SECONDS = 30.0
"""After this no further message of a round is begun."""
TEMPORARY, PERMANENT = 400, 500
"""From which codes on a failure is one, RFC 5321 section 4.2.1."""


@dataclass(frozen=True)
class Outcome:
    """What became of a message: sent, or the reason why not, and whether another attempt can help."""

    reason: str = ""
    is_final: bool = False


SENT = Outcome()


class CredentialsRefused(smtplib.SMTPException):
    """The server does not accept user and password."""


class MailSender(Protocol):
    """What sends mails."""

    def send(self, messages: Sequence[EmailMessage]) -> list[Outcome]:
        """Return what became of each message; raise nothing for a server that fails."""


class SmtpSender:
    """Sends mails to a server, in one connection for each round."""

    def __init__(
        self,
        server: MailServer,
        own_name: str,
        authorities: ssl.SSLContext | None = None,
        reply_seconds: float = REPLY_SECONDS,
    ) -> None:
        """Take the name of this host, and the authorities that the server is verified by; None: the system's."""
        self._server = server
        self._reply_seconds = reply_seconds
        self._own_name = own_name
        self._authorities = authorities

    def failure(self) -> str:
        """Return why the server cannot be used, or an empty text; nothing is sent."""
        try:
            with self._connected() as connection:
                connection.ehlo_or_helo_if_needed()
                code, said = connection.noop()
                if code >= TEMPORARY:
                    raise smtplib.SMTPResponseException(code, said)
        except (OSError, smtplib.SMTPException) as error:
            return _reason(error)
        return ""

    def send(self, messages: Sequence[EmailMessage]) -> list[Outcome]:
        """Return what became of each message."""
        outcomes: list[Outcome] = []
        until = time.monotonic() + ROUND_SECONDS
        reason = "the server takes too long"
        try:
            with self._connected() as connection:
                for message in messages:
                    if time.monotonic() > until:
                        break
                    outcomes.append(_sent(connection, message))
        except (OSError, smtplib.SMTPException) as error:
            reason = _reason(error)
        return [*outcomes, *(Outcome(reason) for _ in messages[len(outcomes) :])]

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """Yield a connection, secured and authenticated; raise OSError or SMTPException."""
        server = self._server
        connection: smtplib.SMTP
        if server.security is Security.TLS:
            connection = smtplib.SMTP_SSL(
                server.host, server.port, self._own_name, timeout=self._reply_seconds, context=self._context()
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, self._own_name, timeout=self._reply_seconds)
        try:
            if server.security is Security.STARTTLS:
                connection.starttls(context=self._context())  # raises if the server does not offer it
            if server.username is not None and server.password is not None:
                _log_in(connection, server.username, server.password)
            yield connection
        finally:
            with suppress(OSError, smtplib.SMTPException):
                connection.quit()
            connection.close()

    def _context(self) -> ssl.SSLContext:
        return self._authorities or ssl.create_default_context()


def _log_in(connection: smtplib.SMTP, username: str, password: str) -> None:
    """Authenticate; raise OSError or SMTPException."""
    try:
        connection.login(username, password)
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPServerDisconnected):
        # Some servers close the connection when the library tries a second method.
        raise CredentialsRefused from None


def _sent(connection: smtplib.SMTP, message: EmailMessage) -> Outcome:
    """Send one message; raise OSError or SMTPServerDisconnected if the connection is lost."""
    try:
        connection.send_message(message)
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        return Outcome(f"the server refused the recipient with {codes[0]}", min(codes) >= PERMANENT)
    except smtplib.SMTPSenderRefused as error:  # the operator can fix that
        return Outcome(f"the server refused the sender with {error.smtp_code}")
    except smtplib.SMTPResponseException as error:
        return Outcome(_reason(error), error.smtp_code >= PERMANENT)
    except smtplib.SMTPException as error:
        return Outcome(_reason(error))
    except ValueError as error:  # an address that cannot be sent to; its text may contain it
        return Outcome(type(error).__name__, is_final=True)
    return SENT


def _reason(error: OSError) -> str:
    """Return why a server failed, without what it said: that may name the recipient."""
    match error:
        case CredentialsRefused():
            text = "the server refused user and password"
        case smtplib.SMTPResponseException():
            text = f"the server answered {error.smtp_code}"
        case smtplib.SMTPServerDisconnected() if isinstance(error.__context__, TimeoutError):
            text = "the server does not answer"
        case smtplib.SMTPServerDisconnected():
            text = "the server closed the connection"
        case smtplib.SMTPNotSupportedError():
            text = "the server does not offer STARTTLS or authentication"
        case ssl.SSLCertVerificationError():
            text = f"the certificate of the server is not valid: {error.verify_message}"
        case TimeoutError():
            text = "the server does not answer"
        case _:
            text = error.strerror or type(error).__name__
    return text
