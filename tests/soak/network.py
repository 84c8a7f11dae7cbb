"""The network of the soak: the line from a node to its database, which can be cut, and the front of all nodes.

Who cuts and joins the line is told in `faults`; what comes through is judged in `watch` and `verifiers`.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from support.servers import HOST

PIECE = 65536
PATIENCE_SECONDS = 0.8
"""How long the front waits for one node before it asks the next: a stopped node accepts, and says nothing."""
ASKED_AGAIN = 503
NOBODY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Line:
    """What leads from one node to the servers of its database: a TCP port in front of each."""

    def __init__(self, *server_ports: int) -> None:
        self._server_ports = server_ports
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._connected: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []

    async def start(self) -> list[int]:
        """Listen, and return the port that leads to each server."""
        for server_port in self._server_ports:
            accept = partial(self._accept, server_port)
            self._listeners.append(await asyncio.start_server(accept, HOST, 0))
        return [listener.sockets[0].getsockname()[1] for listener in self._listeners]

    def close(self) -> None:
        """Reset every connection, and each new one at once: a database that went away."""
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Let nothing through and tell nobody, as a network does that loses every packet."""
        self._open.clear()

    def join(self) -> None:
        """Let everything through again; what was sent in silence arrives now, as it does when packets are resent."""
        self._refusing = False
        self._open.set()

    async def end(self) -> None:
        """Close everything for good."""
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
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        except OSError:
            pass
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(PIECE):
                await self._open.wait()
                sink.write(piece)
                await sink.drain()
        await self._open.wait()
        sink.close()


class Front:
    """The issuer's URL: hands each GET to some node, and to the next if that one is dead, mute or answers 503.

    It does not ask who is ready: a document that a node gives out must be good, ready or not.
    """

    def __init__(self, nodes: Mapping[str, int]) -> None:
        self._nodes = nodes
        self._server: asyncio.Server | None = None
        self.failed_at = float("-inf")
        """When no node answered last, in true time."""
        self.answers: deque[tuple[float, str, str]] = deque(maxlen=12)
        """When, from which node, and what status line: the latest answers."""

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        """Close for good."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._answer(_of_one_request(head)))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        for name in random.sample(list(self._nodes), len(self._nodes)):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    answer = await self._ask(self._nodes[name], request)
            except OSError:  # a timeout is one, too
                continue
            status = answer.partition(b"\r\n")[0].decode("latin-1")
            self.answers.append((time.time(), name, status))
            if f" {ASKED_AGAIN} " not in status:
                return answer
        self.failed_at = time.time()
        return NOBODY

    async def _ask(self, port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(request)
            answer = await reader.read(-1)
        finally:
            writer.transport.abort()
        if b"\r\n\r\n" not in answer:
            raise ConnectionResetError("no whole answer")
        return answer


def _of_one_request(head: bytes) -> bytes:
    """Return the head of a request that ends with its answer, however its connection was meant."""
    lines = head.rstrip(b"\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])
