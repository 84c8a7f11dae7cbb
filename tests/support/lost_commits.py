"""Connections to PostgreSQL that are lost while a transaction is committed, so that its outcome is unknown."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

from support.postgresql import HOST

MOST_BYTES = 65536


@contextmanager
def losing_commits(url: str, statement: bytes, *, is_committed: bool) -> Iterator[str]:
    """Yield a URL of the same database: a connection is closed when it commits a statement that contains this text.

    That is before the server gets the COMMIT, or after it has done it.
    """
    address = HOST, urlsplit(url).port

    class Relay(BaseRequestHandler):
        is_watched = False

        def handle(self) -> None:
            with socket.create_connection(address) as server:
                while self._pass(server):
                    pass

        def _pass(self, server: socket.socket) -> bool:
            """Pass on what either side has sent; return False when the connection is to be closed."""
            readable, _, _ = select.select([self.request, server], [], [])
            data = readable[0].recv(MOST_BYTES)
            if readable[0] is server:
                self.request.sendall(data)
                return bool(data)
            self.is_watched |= statement in data
            is_commit = self.is_watched and b"COMMIT" in data
            if data and (is_committed or not is_commit):
                server.sendall(data)
            if is_commit and is_committed:
                server.recv(MOST_BYTES)
            return bool(data) and not is_commit

    with ThreadingTCPServer((HOST, 0), Relay) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        yield url.replace(f":{address[1]}/", f":{relay.server_address[1]}/")
        relay.shutdown()
        thread.join()
