"""Clients as real servers: they record the requests that browsers send to them, and may send browsers on."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from support.certificates import certificate
from support.servers import HOST

PAGE = b"<!DOCTYPE html><html lang='en'><title>the application</title><h1>the application</h1>"


@dataclass
class Callback:
    """What a client received."""

    base: str
    """Scheme, host and port of the client."""
    onward: str = ""
    """Where it sends browsers on, such as to a program on the computer; empty: nowhere."""
    received: list[dict[str, str]] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"{self.base}/callback"


def _handler(client: Callback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/callback":
                self._answer(parts.query)
            else:
                self._page()

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, encoded: str) -> None:
            client.received.append(dict(parse_qsl(encoded)))
            if not client.onward:
                self._page()
                return
            self.send_response(302)
            self.send_header("Location", client.onward)
            self.end_headers()

        def _page(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def client_server(folder: Path | None = None, host: str = HOST) -> Iterator[Callback]:
    """Serve a client on a free port of loopback; with a folder for its certificate, by TLS."""
    client = Callback("")
    server = ThreadingHTTPServer((HOST, 0), _handler(client))
    if folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    client.base = f"{'https' if folder else 'http'}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
