"""Accepts connections only while there is room for them; the others wait in the backlog of the kernel.

An event loop would accept all of them, and `ledger` would have to close connections whose request has arrived but was
not read yet. Without free file descriptors uvloop even closes every connection in the backlog.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from .protocol import Connection

ACCEPTED_AT_ONCE = 8
AGAIN_SECONDS = 0.01
OUT_OF_DESCRIPTORS_SECONDS = 0.05
REPORT_SECONDS = 60.0

logger = logging.getLogger("uvicorn.error")


class PacedServer:
    """The server that `create_server` returns, as far as uvicorn uses it, for one listening socket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any], listener: socket.socket
    ) -> None:
        self.sockets = (listener,)
        self._loop = loop
        self._factory = factory
        self._listener = listener
        self._closed = False
        self._accepted: Connection | None = None  # the latest; gives access to the ledger
        # Tasks of connections that are not in the ledger yet.
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported_at = -REPORT_SECONDS
        listener.setblocking(False)
        loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Stop accepting, as the server stops; open connections stay."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener)
            self._listener.close()
            if self._accepted is not None:
                self._accepted.ledger.stop()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn waits for its connections itself."""

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            crowded = self._accepted is not None and self._accepted.ledger.is_crowded()
            if crowded or len(self._tasks) >= ACCEPTED_AT_ONCE:
                self._pause(AGAIN_SECONDS)
                return
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors or memory
                self._report(error)
                if self._accepted is not None:
                    self._accepted.ledger.free_descriptors()
                self._pause(OUT_OF_DESCRIPTORS_SECONDS)
                return
            self._accepted = connection = self._factory()
            task = self._loop.create_task(self._serve(accepted, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # the client has disconnected
            accepted.close()

    def _report(self, error: OSError) -> None:
        """Log an error, at most once a minute."""
        now = self._loop.time()
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            logger.warning("cannot accept connections now: %s", error.strerror)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)


def pace(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Make the loop use PacedServer for listening sockets, and return the loop."""
    original = loop.create_server

    async def create_server(factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        listener = options.get("sock")
        if listener is None or options.get("ssl") is not None:
            return await original(factory, *args, **options)
        listener.listen(options.get("backlog", socket.SOMAXCONN))
        return PacedServer(loop, factory, listener)

    loop.create_server = create_server  # type: ignore[method-assign, assignment]
    return loop
