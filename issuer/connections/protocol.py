"""uvicorn's HTTP/1.1 connection with limits: its start, with or without TLS, and its responses.

Reading requests is left to `parsing`, closing to `ending`, and evicting to `ledger`.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_remote_addr

from .heads import Refused
from .ledger import Cause, Phase
from .parsing import ParsingProtocol
from .tls import Started, start_tls


class Connection(ParsingProtocol):
    """Responds to requests; refuses those that exceed a limit, and closes the connection then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Add the connection to the ledger, or refuse it if there are too many."""
        tls = getattr(self.config, "tls", None)
        peer = get_remote_addr(transport)
        self.address = self.limits.counted_address(peer[0]) if peer else None
        self.since = self.loop.time()
        self.transport = transport
        if tls is not None:
            self.phase = Phase.HANDSHAKE
        full = self.ledger.admit(self)
        if tls is None:
            self._begin(transport)
            if full:
                self._refuse_connection(full)
        elif full:
            transport.abort()
        else:
            started = start_tls(self.loop, transport, self, tls, self.limits.head_seconds)
            self._handshake = self.loop.create_task(self._finish_handshake(transport, started))

    async def _finish_handshake(self, transport: asyncio.Transport, started: Started) -> None:
        try:
            encrypted = await started
        except (OSError, ValueError, RuntimeError):  # a failed handshake, or a transport closed meanwhile
            encrypted = None
        if encrypted is None or encrypted.is_closing():
            self.ledger.remove(self)
            transport.abort()
            return
        self.since = self.loop.time()
        self.ledger.move(self, Phase.HEAD)
        self._begin(encrypted)
        self.feed_again()

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self)

    def _refuse_connection(self, reason: Cause) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if reason is Cause.TOO_MANY_OF_ADDRESS:
            status = HTTPStatus.TOO_MANY_REQUESTS
        self._refusal = Refused(reason, status, "too many connections; try again later")
        self.ledger.leave(self)
        self._deliver_refusal()
        self.loop.call_later(self.limits.linger_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the ledger."""
        self.ledger.remove(self)
        self._abandon()
        if self.flow is not None:
            super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Process the next pipelined request, or wait for another one."""
        self.server_state.total_requests += 1
        if self.phase is Phase.CLOSING:
            return
        if self.transport.is_closing():
            self._note_closing()
        elif self.pipeline:
            self._running, app = self.pipeline.pop()
            self._start_asgi_task(self._running, app)
            self.flow.resume_reading()
        elif self._refusal is not None:
            self._deliver_refusal()
        elif self._in_body and self._body_bytes > self.limits.unread_body_bytes:
            self.linger()
        else:
            if self.flow.read_paused:
                self.flow.resume_reading()
            self._settle()

    def pause_writing(self) -> None:
        """Start to measure how fast the client reads."""
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        """Continue the response."""
        super().resume_writing()
        if self.phase is Phase.WRITING:
            self._settle()


class _Flow(FlowControl):
    """Pauses reading while pipelined requests wait, and parses kept data before reading more."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Resume reading, unless pipelined requests wait."""
        connection = self._connection
        if self.read_paused and not connection.pipeline:
            super().resume_reading()
            connection.loop.call_soon(connection.feed_again)
