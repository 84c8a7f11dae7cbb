"""The server of a client that receives logout tokens: accepts them, or fails in a chosen way."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from urllib.parse import parse_qs

PATIENCE_SECONDS = 20.0


class Answer(Enum):
    """What the server does with a request."""

    ACCEPT = 200
    NO_CONTENT = 204
    REFUSE = 400
    FAIL = 500
    REDIRECT = 307
    HANG = "never answers"
    DRIP = "sends a byte of the head now and then"
    FLOOD = "sends a head that never ends"
    GARBAGE = "answers what is no HTTP"


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    path: str
    content_type: str
    form: dict[str, list[str]]


class LogoutReceiver(ThreadingHTTPServer):
    """The server; `received` has its requests in their order."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer = Answer.ACCEPT
        self.received: Queue[Received] = Queue()
        self.released = threading.Event()
        """Ends requests that hang."""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/backchannel?tenant=1"

    def next(self) -> Received:
        """Return the next request, and wait for it."""
        return self.received.get(timeout=PATIENCE_SECONDS)

    def handle_error(self, *_: object) -> None:
        """Ignore a connection that was closed before the answer."""


class _Handler(BaseHTTPRequestHandler):
    server: LogoutReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.put(Received(self.path, self.headers["Content-Type"], parse_qs(body)))
        answer = self.server.answer
        match answer:
            case Answer.HANG:
                self.server.released.wait(PATIENCE_SECONDS)
            case Answer.DRIP:
                self._write_until_released(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", 0.05)
            case Answer.FLOOD:
                self._write_until_released(b"HTTP/1.1 200 OK\r\n", b"X-Much: more of it\r\n" * 1000, 0)
            case Answer.GARBAGE:
                self.wfile.write(b"\x00\xff\r\n\r\n")
            case Answer.REDIRECT:
                self.send_response(answer.value)
                self.send_header("Location", self.path)
                self.end_headers()
            case _:
                self.send_response(answer.value)
                self.send_header("Content-Length", "0")
                self.end_headers()

    def do_GET(self) -> None:
        self.server.received.put(Received(self.path, "", {}))
        self.send_error(405)

    def _write_until_released(self, head: bytes, part: bytes, pause: float) -> None:
        self.wfile.write(head)
        while not self.server.released.wait(pause):
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def logout_receiver() -> Iterator[LogoutReceiver]:
    with LogoutReceiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
