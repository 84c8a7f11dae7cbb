"""Reads requests within the limits: heads, bodies, chunks, and upgrades, of which only WebSocket is accepted.

Validating a head is left to `heads`, closing the connection to `ending`.
"""

from http import HTTPStatus
from typing import Any

import httptools

from . import heads
from .ending import ClosingTransport, EndingProtocol
from .heads import Refused
from .ledger import Cause, Phase

SLICE_BYTES = 4096
"""The largest input of the parser, so that reading can pause within the data of one packet."""


class ParsingProtocol(EndingProtocol):
    """Parses received data, and refuses requests that exceed a limit."""

    def data_received(self, data: bytes) -> None:
        """Parse `data` in slices; keep it for later while earlier data waits to be parsed."""
        if self._refusal is not None or self.phase is Phase.CLOSING:
            return
        if self._unparsed or self.flow is None:  # `flow` is None until the TLS handshake is complete
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
        """Parse the data that was kept; called when reading resumes."""
        if self._refusal is not None or self.flow.read_paused or self.transport.is_closing():
            return
        self.since = self.loop.time()  # the delay was caused by the server, not by the client
        data, self._unparsed = self._unparsed, b""
        self._feed(data)

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
            return  # the position of the message in the slice is unknown, so the slice is not counted
        if in_head and self._in_head:
            self._head_bytes += len(data)
            self._require_small_head(self._head_bytes)
        elif in_body and self._in_body:
            self._chunk_bytes += len(data) - (self._body_bytes - body_bytes)
            if self._chunk_bytes > self.limits.head_bytes:
                reason = "the chunks of the body are too small, or its trailers too large"
                self._refuse(Refused(Cause.CHUNKS_TOO_COSTLY, HTTPStatus.BAD_REQUEST, reason))

    def _require_small_head(self, most_known: int) -> None:
        if most_known > self.limits.head_bytes:
            self._refuse(heads.head_too_large(self.limits.head_bytes))
        elif len(self.headers) > self.limits.headers:
            self._refuse(heads.too_many_headers(self.limits.headers))

    # Callbacks of the parser, which raises its own error with theirs as context

    def on_message_begin(self) -> None:
        """Start to measure a head."""
        super().on_message_begin()
        self._messages += 1
        self._in_head = True
        self._head_bytes = self._body_bytes = self._chunk_bytes = 0
        self.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target."""
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise heads.target_too_long(self.limits.target_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Append a header; drop a trailer, as the application already has the headers."""
        if self._in_head:
            # The parser drops blanks before a value, but not those after it (RFC 9112 section 5.1).
            self.headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Validate the head, and call the application unless the client offers an upgrade."""
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
        """Pass a part of a body on."""
        self._body_bytes += len(body)
        super().on_body(body)
        if self._body_bytes > self.limits.unread_body_bytes:
            self._read_no_further()

    def on_message_complete(self) -> None:
        """Complete a request as uvicorn does, except for ignored upgrades."""
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
            # Immediately: after a response it would be undefined whether a body or a request follows.
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif waits or too_long:
            self.cycle.waiting_for_100_continue = waits
            self._read_no_further()

    def _read_no_further(self) -> None:
        """Close the connection after the response, unless the body ends before it."""
        if self.cycle.response_complete:
            self.linger()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False
            self.cycle.transport = ClosingTransport(self)  # type: ignore[assignment]

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
        """Return the head without its Upgrade header for a new parser, as the old one would not read the body.

        A server may ignore any upgrade, RFC 9110 section 7.8.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self._ignores_offer = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*lines, b"", b""])

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, and count it until it is closed."""
        self.ledger.move(self, Phase.ANSWERING)
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        lost = protocol.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self.ledger.remove(self)
            lost(exc)

        protocol.connection_lost = connection_lost
