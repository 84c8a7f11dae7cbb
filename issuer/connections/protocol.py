"""uvicorn's HTTP/1.1 connection with bounds on heads, on time and on what waits unread; it ignores offers of h2c.

Judging a head is left to `heads`, closing one connection for another to `ledger`.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from . import heads
from .heads import Refused
from .ledger import Cause, Ledger, Phase, ledger_of
from .tls import Begun, start_tls

SLICE_BYTES = 4096
"""The parser gets no more at once, so that what one read brings is not worked off before anybody else's."""


class Connection(HttpToolsProtocol):
    """Answers requests; refuses those that cost too much before they are known, and closes the connection then."""

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
        self.since = 0.0  # when the present phase began
        self._in_head = self._in_body = False
        self._messages = 0
        self._head_bytes = 0  # of a head that is incomplete, as far as they are known to be of it
        self._body_bytes = 0
        self._chunk_bytes = 0  # sizes, extensions and trailers
        self._unparsed = b""
        self._is_websocket = self._ignores_offer = False
        self._running: RequestResponseCycle | None = None
        self._refusal: Refused | None = None
        self._unwritten = 0

    # What a connection goes through

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if there are too many."""
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
                self._turn_away(full)
        elif full:
            transport.abort()
        else:
            begun = start_tls(self.loop, transport, self, tls, self.limits.head_seconds)
            self._handshake = self.loop.create_task(self._finish_handshake(transport, begun))

    async def _finish_handshake(self, transport: asyncio.Transport, begun: Begun) -> None:
        try:
            encrypted = await begun
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

    def _turn_away(self, reason: Cause) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if reason is Cause.TOO_MANY_OF_ADDRESS:
            status = HTTPStatus.TOO_MANY_REQUESTS
        self._refusal = Refused(reason, status, "too many connections; try again later")
        self.ledger.leave(self)
        self._deliver_refusal()
        self.loop.call_later(self.limits.linger_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.ledger.remove(self)
        self._abandon()
        if self.flow is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, in slices, unless more has come already than is worked off."""
        if self._refusal is not None or self.phase is Phase.CLOSING:
            return
        if self._unparsed or self.flow is None:  # uvicorn sets the latter when TLS is agreed on
            self._unparsed += data
        elif len(data) > SLICE_BYTES:
            self._feed(data)
        else:
            self._parse(data)
            self._settle()

    def _feed(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            self._parse(data[start : start + SLICE_BYTES])
            if self._refusal is not None or self._is_websocket or self.transport.is_closing():
                break
            if self.flow.read_paused:
                self._unparsed = data[start + SLICE_BYTES :]
                break
        self._settle()

    def feed_again(self) -> None:
        """Go on with what waits to be parsed; called when reading goes on."""
        if self._refusal is not None or self.flow.read_paused or self.transport.is_closing():
            return
        self.since = self.loop.time()  # what came before was held up here, and not by the client
        data, self._unparsed = self._unparsed, b""
        self._feed(data)

    def _settle(self) -> None:
        """Tell the ledger what the connection waits for now."""
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

    def _parse(self, data: bytes) -> None:
        message, in_head, in_body = self._messages, self._in_head, self._in_body
        body_bytes, offered_at = self._body_bytes, None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            offered_at = offer.args[0]
        except httptools.HttpParserError as error:
            self._refuse(heads.refusal_of(error))
            return
        if offered_at is not None:  # not handled above: it would become the context of the errors that follow
            if self._is_websocket:
                self.handle_websocket_upgrade()
            else:
                self._parse(self._without_offer() + data[offered_at:])
            return
        if message != self._messages:
            return  # where in the slice the message began is not known, so the slice is not counted
        if in_head and self._in_head:
            self._head_bytes += len(data)
            self._require_small_head(self._head_bytes)
        elif in_body and self._in_body:
            self._chunk_bytes += len(data) - (self._body_bytes - body_bytes)
            if self._chunk_bytes > self.limits.head_bytes:
                reason = "the chunks of the body are too small, or its trailers too large"
                self._refuse(Refused(Cause.CHUNKS_TOO_COSTLY, HTTPStatus.BAD_REQUEST, reason))

    # What the parser finds; it hands on what is raised as the context of its own error

    def on_message_begin(self) -> None:
        """Begin to measure a head."""
        super().on_message_begin()
        self._messages += 1
        self._in_head = True
        self._head_bytes = self._body_bytes = self._chunk_bytes = 0
        self.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a part of the request target."""
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise heads.target_too_long(self.limits.target_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped, for the application has been given the headers already."""
        if self._in_head:
            # The parser drops blanks before a value, but not those after it (RFC 9112 section 5.1).
            self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Judge the head, and begin to answer unless another protocol is offered."""
        limits, method = self.limits, self.parser.get_method()
        if len(self.headers) > limits.headers:
            raise heads.too_many_headers(limits.headers)
        # The first slice of a head and the last are not counted.
        may_be_large = self._head_bytes + 2 * SLICE_BYTES > limits.head_bytes
        if may_be_large and heads.size(self.url, self.headers) > limits.head_bytes:
            raise heads.head_too_large(limits.head_bytes)
        framing = heads.framing(self.parser.get_http_version(), self.headers)
        self.url, host = heads.origin_form(method, self.url)
        if host is not None:
            self.headers[:] = heads.with_host(self.headers, host)
        self._in_head = False
        if self.parser.should_upgrade():
            self._is_websocket = self._accepts_websocket(method, framing)
            self._ignores_offer = not self._is_websocket
            if self._ignores_offer:
                return
        super().on_headers_complete()
        if not self._is_websocket:
            self._in_body = True
            if not self.pipeline:
                self._running = self.cycle
            if len(framing) > 1 or b"host" not in framing:
                self._expect_body(framing)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_bytes += len(body)
        super().on_body(body)
        if self._body_bytes > self.limits.unread_body_bytes:
            self._read_no_further()

    def on_message_complete(self) -> None:
        """End a request; as uvicorn does, but for offers that are ignored."""
        cycle, self._in_body = self.cycle, False
        if not (self._is_websocket or self._ignores_offer or cycle.response_complete):
            cycle.more_body = False
            cycle.message_event.set()

    # Bodies

    def _expect_body(self, framing: dict[bytes, bytes]) -> None:
        """Decide whether a body will be read to its end."""
        length = int(framing.get(b"content-length", b"0"))
        if not length and b"transfer-encoding" not in framing:
            return
        self.since = self.loop.time()
        too_long = length > self.limits.unread_body_bytes
        waits = framing.get(b"expect", b"").lower() == b"100-continue" and self.scope["http_version"] == "1.1"
        if waits and not too_long and self._running is self.cycle:
            # At once: were the answer given first, it would be open whether a body follows or a request.
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif waits or too_long:
            self.cycle.waiting_for_100_continue = waits
            self._read_no_further()

    def _read_no_further(self) -> None:
        """Close the connection after the answer, if that comes before the end of the body, or has come."""
        if self.cycle.response_complete:
            self._linger()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False
            self.cycle.transport = _Closing(self)  # type: ignore[assignment]

    # Offers of another protocol

    def _accepts_websocket(self, method: bytes, framing: dict[bytes, bytes]) -> bool:
        return (
            self.ws_protocol_class is not None
            and method == b"GET"
            and heads.tokens(self.headers, b"upgrade") == [b"websocket"]
            and b"transfer-encoding" not in framing
            and not int(framing.get(b"content-length", b"0"))
            and (self._running is None or self._running.response_complete)
        )

    def _should_upgrade(self) -> bool:
        return self._is_websocket

    def _without_offer(self) -> bytes:
        """Return the head again without its offer, for a new parser: the old one has taken the body for lost.

        RFC 9110 section 7.8 lets a server ignore any offer.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self._ignores_offer = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*lines, b"", b""])

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, and count it until it is lost."""
        self.ledger.move(self, Phase.ANSWERING)
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        lost = protocol.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self.ledger.remove(self)
            lost(exc)

        protocol.connection_lost = connection_lost

    # Answers

    def on_response_complete(self) -> None:
        """Answer what came meanwhile, or wait for another request."""
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
            self._linger()
        else:
            if self.flow.read_paused:
                self.flow.resume_reading()
            self._settle()

    def pause_writing(self) -> None:
        """Expect of the client that it takes what has been written."""
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        if self.phase is Phase.WRITING:
            self._settle()

    # Refusals and ends

    def _require_small_head(self, most_known: int) -> None:
        if most_known > self.limits.head_bytes:
            self._refuse(heads.head_too_large(self.limits.head_bytes))
        elif len(self.headers) > self.limits.headers:
            self._refuse(heads.too_many_headers(self.limits.headers))

    def _refuse(self, refusal: Refused) -> None:
        """Answer nothing that comes from now on, and say why after the answers to what came before."""
        if self._refusal is not None:
            return
        self._refusal = refusal
        self._unparsed = b""
        self.ledger.report(refusal.reason)
        cycle = self.cycle
        if self._in_body and cycle.response_complete:
            self._linger()  # the request has had its answer
            return
        if self._in_body:
            queued = [(each, app) for each, app in self.pipeline if each is not cycle]
            if len(queued) == len(self.pipeline):  # it is the one that is being answered
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
            self._linger()

    def _linger(self) -> None:
        """End the connection, and discard what still arrives: closed at once, it could lose the answer."""
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

    def linger(self) -> None:
        """End the connection after an answer that did not need all of the request."""
        self._linger()

    def evict(self) -> None:
        """Close the connection to make room for another; the client gets what has been written."""
        if self.phase is Phase.IDLE and self.transport.get_write_buffer_size():
            self.transport.close()
            self.loop.call_later(self.limits.write_seconds, self.transport.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection now, whatever has been written."""
        self._abandon()
        self.transport.abort()

    def _abandon(self) -> None:
        """Write no more; uvicorn itself would go on with the requests before the last one."""
        self._unparsed = b""
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def expire(self, now: float) -> None:
        """Close the connection if the client has taken too long."""
        if self.phase is Phase.ANSWERING and self.transport.is_closing():
            self._note_closing()  # uvicorn does so itself when the application fails
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
        else:  # nothing has come yet: to say anything would be taken for the answer to what comes next
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
        if self.transport.is_closing():  # and yet not lost: a peer that does not end TLS
            self.transport.abort()
        else:
            self._close()


class _Flow(FlowControl):
    """Reads no further while pipelined requests wait, and parses what waits before reading more."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Go on reading, unless pipelined requests wait."""
        connection = self._connection
        if self.read_paused and not connection.pipeline:
            super().resume_reading()
            connection.loop.call_soon(connection.feed_again)


class _Closing:
    """The transport of an answer after which the connection ends, without losing the answer."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.linger
