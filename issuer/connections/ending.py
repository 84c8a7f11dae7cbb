"""The phase of a connection, and how it ends: refused, timed out, evicted, or closed after its last response.

Reading requests is left to `parsing`, responding to `protocol`.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from .heads import Refused
from .ledger import Cause, Ledger, Phase, ledger_of


class EndingProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the phase of the connection, and the ways in which it ends."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.ledger: Ledger = ledger_of(server_state, config)
        self.limits = self.ledger.limits
        self.phase = Phase.HEAD
        self.address: str | None = None
        self.since = 0.0  # when the current phase began
        self._in_head = self._in_body = False
        self._messages = 0
        self._head_bytes = 0  # of an incomplete head; slices that contain its start are not counted
        self._body_bytes = 0
        self._chunk_bytes = 0  # sizes, extensions and trailers
        self._unparsed = b""
        self._is_websocket = self._ignores_offer = False
        self._running: RequestResponseCycle | None = None
        self._refusal: Refused | None = None
        self._unwritten = 0

    def _settle(self) -> None:
        """Update the phase of the connection in the ledger."""
        if self._is_websocket or self.phase is Phase.CLOSING:
            return
        answering = self._running is not None and not self._running.response_complete
        reading = (self._in_head or self._in_body) and self._refusal is None and not self.flow.read_paused
        if self.flow.write_paused and not (reading and answering):
            phase = Phase.WRITING
        elif answering and not reading:
            phase = Phase.ANSWERING
        elif self._in_head:
            phase = Phase.HEAD
        elif self._in_body:
            phase = Phase.BODY
        else:
            phase = Phase.HEAD if self._running is None else Phase.IDLE
        if phase is self.phase:
            return
        if phase is Phase.IDLE:
            self.since = self.loop.time()
        elif phase is Phase.WRITING:
            self.since, self._unwritten = self.loop.time(), self.transport.get_write_buffer_size()
        self.ledger.move(self, phase)

    def _refuse(self, refusal: Refused) -> None:
        """Read no further requests; send the refusal after the responses to earlier ones."""
        if self._refusal is not None:
            return
        self._refusal = refusal
        self._unparsed = b""
        self.ledger.report(refusal.reason)
        cycle = self.cycle
        if self._in_body and cycle.response_complete:
            self.linger()  # the request has its response
            return
        if self._in_body:
            queued = [(each, app) for each, app in self.pipeline if each is not cycle]
            if len(queued) == len(self.pipeline):  # the refused request is already being processed
                cycle.disconnected = True
                cycle.message_event.set()
                self._running = None
                if cycle.response_started:
                    self._close()
                    return
            self.pipeline.clear()
            self.pipeline.extend(queued)
        if self._running is None or self._running.response_complete:
            self._deliver_refusal()
        else:
            self._settle()

    def _deliver_refusal(self) -> None:
        if self._refusal is not None and not self.transport.is_closing():
            self.transport.write(self._refusal.answer(self.server_state.default_headers))
            self.linger()

    def linger(self) -> None:
        """Close after what was written; discard what arrives until then, because a reset could lose the response."""
        self._note_closing()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        self._note_closing()
        self.transport.close()

    def _note_closing(self) -> None:
        self.since, self._unwritten = self.loop.time(), self.transport.get_write_buffer_size()
        self._unparsed = b""
        self.pipeline.clear()
        self.ledger.move(self, Phase.CLOSING)

    def evict(self) -> None:
        """Close the connection to make room for another one; what was written is still delivered."""
        if self.phase is Phase.IDLE and self.transport.get_write_buffer_size():
            self.transport.close()
            self.loop.call_later(self.limits.write_seconds, self.transport.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection immediately, even if written data is lost."""
        self._abandon()
        self.transport.abort()

    def _abandon(self) -> None:
        """Stop writing; uvicorn itself would continue with queued requests."""
        self._unparsed = b""
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def expire(self, now: float) -> None:
        """Close the connection if the client has exceeded a time limit."""
        if self.phase is Phase.ANSWERING and self.transport.is_closing():
            self._note_closing()  # uvicorn closed it, because the application failed
        waited, limits = now - self.since, self.limits
        match self.phase:
            case Phase.HEAD if waited > limits.head_seconds:
                self._expire_head()
            case Phase.BODY if waited > limits.body_seconds:
                self._expire_body()
            case Phase.IDLE if waited > limits.keep_alive_seconds:
                self._close()
            case Phase.WRITING if waited > limits.write_seconds:
                self._expire_writing(now)
            case Phase.HANDSHAKE if waited > limits.head_seconds:
                self.ledger.report(Cause.TLS_TIMEOUT)
                self.abort()
            case Phase.CLOSING if self.transport.get_write_buffer_size():
                if waited > limits.write_seconds:
                    self._expire_writing(now)
            case Phase.CLOSING if waited > limits.linger_seconds:
                self._expire_closing()

    def _expire_head(self) -> None:
        if self._in_head:
            reason = f"the head of a request took longer than {self.limits.head_seconds:g} s"
            self._refuse(Refused(Cause.HEAD_TIMEOUT, HTTPStatus.REQUEST_TIMEOUT, reason))
        else:  # without a request, a response could be read as the response to the next one
            self.ledger.report(Cause.HEAD_TIMEOUT)
            self._close()

    def _expire_body(self) -> None:
        if self.cycle.response_complete:
            self.ledger.report(Cause.BODY_TIMEOUT)
            self._close()
        else:
            reason = f"the body of a request took longer than {self.limits.body_seconds:g} s"
            self._refuse(Refused(Cause.BODY_TIMEOUT, HTTPStatus.REQUEST_TIMEOUT, reason))

    def _expire_writing(self, now: float) -> None:
        unwritten = self.transport.get_write_buffer_size()
        if unwritten > self._unwritten - self.limits.write_bytes:
            self.ledger.report(Cause.WRITE_TIMEOUT)
            self.abort()
        self.since, self._unwritten = now, unwritten

    def _expire_closing(self) -> None:
        if self.transport.is_closing():  # the peer does not complete the TLS shutdown
            self.transport.abort()
        else:
            self._close()


class ClosingTransport:
    """The transport of a last response, which closes the connection without losing the response."""

    def __init__(self, connection: EndingProtocol) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.linger
