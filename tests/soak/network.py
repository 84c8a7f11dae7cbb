"""The network of the soak test: interruptible connections from a node to its database, and a load balancer.

Interruptions are injected by `faults`; answers are checked by `watch` and `verifiers`.
"""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from support.servers import HOST

CHUNK_BYTES = 65536
PATIENCE_SECONDS = 0.8
"""The load balancer's timeout for one node: a stopped node accepts connections and does not answer.

It waits for as much longer as the request asks the node to wait.
"""
RETRIED_STATUS = 503
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


_WAIT = re.compile(rb"^prefer: wait=(\d+)\r$", re.IGNORECASE | re.MULTILINE)


class DatabaseLink:
    """The connections from one node to its database servers: a TCP proxy for each server."""

    def __init__(self, *server_ports: int) -> None:
        self._server_ports = server_ports
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._connected: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []

    async def start(self) -> list[int]:
        """Listen, and return the proxy port for each server."""
        for server_port in self._server_ports:
            accept = partial(self._accept, server_port)
            self._listeners.append(await asyncio.start_server(accept, HOST, 0))
        return [listener.sockets[0].getsockname()[1] for listener in self._listeners]

    def close(self) -> None:
        """Reset every connection, and each new one immediately, like a database that is gone."""
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Forward nothing and close nothing, like a network that loses every packet."""
        self._open.clear()

    def restore(self) -> None:
        """Forward everything again, including what was sent meanwhile, like retransmitted packets."""
        self._refusing = False
        self._open.set()

    async def end(self) -> None:
        """Close everything permanently."""
        for listener in self._listeners:
            listener.close()
        self.close()
        self._open.set()
        await asyncio.gather(*self._connected)
        for listener in self._listeners:
            await listener.wait_closed()

    def _accept(self, server_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(server_port, reader, writer))
        self._connected.add(task)
        task.add_done_callback(self._connected.discard)

    async def _connect(
        self, server_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            await self._open.wait()
            if self._refusing:
                return
            there, back = await asyncio.open_connection(HOST, server_port)
            ends.append(back)
            self._writers.add(back)
            await asyncio.gather(self._forward(reader, back), self._forward(there, writer))
        except OSError:
            pass
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()
        await self._open.wait()
        sink.close()


class LoadBalancer:
    """The issuer's URL: forwards each GET to a random node, and to the next if it fails, times out or answers 503.

    It does not check readiness: every published document must be valid, also from a node that is not ready.
    """

    def __init__(self, nodes: Mapping[str, int]) -> None:
        self._nodes = nodes
        self._server: asyncio.Server | None = None
        self.failed_at = float("-inf")
        """The last time at which no node answered, in true time."""
        self.answers: deque[tuple[float, str, str]] = deque(maxlen=12)
        """The latest answers: time, node and status line."""
        self.granted = 0
        """How many requests a node let wait."""

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        """Close permanently."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._answer(_without_keep_alive(head)))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        wait = int(asked[1]) if (asked := _WAIT.search(request)) else 0
        for name in random.sample(list(self._nodes), len(self._nodes)):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS + wait):
                    answer = await self._ask(self._nodes[name], request)
            except OSError:  # includes timeouts
                continue
            status = answer.partition(b"\r\n")[0].decode("latin-1")
            self.answers.append((time.time(), name, status))
            self.granted += b"\r\npreference-applied: " in answer.lower()
            if f" {RETRIED_STATUS} " not in status:
                return answer
        self.failed_at = time.time()
        return BAD_GATEWAY

    async def _ask(self, port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(request)
            answer = await reader.read(-1)
        finally:
            writer.transport.abort()
        if b"\r\n\r\n" not in answer:
            raise ConnectionResetError("incomplete response")
        return answer


def _without_keep_alive(head: bytes) -> bytes:
    """Return the head of the request with `Connection: close`."""
    lines = head.rstrip(b"\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])
