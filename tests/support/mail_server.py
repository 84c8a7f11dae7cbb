"""A real SMTP server on this machine, and what it was given."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

USER, PASSWORD = "mailer", "p@ss/word"


@dataclass
class MailServer:
    """What was received; it refuses recipients with the status in `refused`, and messages while it is `failing`."""

    messages: list[EmailMessage] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    failing: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def recipients(self) -> list[str]:
        return [str(message["To"]) for message in self.messages]

    async def handle_RCPT(self, _s: Any, _c: Any, envelope: Envelope, address: str, _o: Any) -> str:  # noqa: N802
        if address in self.refused:
            return f"{self.refused[address]} <{address}> is refused"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.failing:
            return "451 try again later"
        content = envelope.original_content
        assert content
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"


def _authenticated(_s: Any, _ses: Any, _e: Any, _m: Any, given: LoginPassword) -> AuthResult:
    is_right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)  # the library answers


@contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, authenticates: bool = False
) -> Iterator[MailServer]:
    """Run a server, with TLS or STARTTLS if a context is given."""
    handler = MailServer()
    loop = asyncio.new_event_loop()

    def session() -> SMTP:
        return SMTP(
            handler,
            loop=loop,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=_authenticated if authenticates else None,
            # The library does not know of TLS that is there from the start.
            auth_required=authenticates and tls is None,
            auth_require_tls=tls is None,
        )

    server = loop.run_until_complete(loop.create_server(session, "127.0.0.1", 0, ssl=tls))
    handler.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="smtp")
    thread.start()
    try:
        yield handler
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_close(server))
        loop.close()


async def _close(server: asyncio.Server) -> None:
    """Close the server, and cancel the sessions that are open."""
    server.close()
    sessions = asyncio.all_tasks() - {asyncio.current_task()}
    for each in sessions:
        each.cancel()
    await asyncio.gather(*sessions, return_exceptions=True)


def text_of(message: EmailMessage) -> str:
    """Return the text of a message."""
    text: str = message.get_content()
    return text


def link_in(message: EmailMessage) -> str:
    """Return the only link of a message."""
    (link,) = [line for line in text_of(message).splitlines() if line.startswith("http")]
    return link
