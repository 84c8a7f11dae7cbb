"""A node of the soak test: `issuer serve` with two workers and its own link to the database.

Its faults are injected by `faults`, its answers checked by `watch`.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx2
from support.servers import Installation, Server, is_running

from soak.network import DatabaseLink
from soak.rules import Pace

WORKERS = 2
STABLE_SECONDS = 2.0
"""A node is healthy again after it was ready at each look for this long: by then both workers answered."""
LOOK_SECONDS = 0.15


class Shifted(Installation):
    """An installation on a machine with a wrong clock."""

    def serve(  # type: ignore[override]
        self, *, workers: int = 1, port: int | None = None
    ) -> Server:
        port = port or self.port
        script = str(Path(__file__).with_name("shifted.py"))
        return self._start([script, "serve", "--port", str(port), "--workers", str(workers)], port, workers)


class Node:
    """A node, with the time since when it is healthy."""

    def __init__(self, name: str, installation: Installation, line: DatabaseLink, pace: Pace) -> None:
        self.name = name
        self.pace = pace
        self.line = line
        self.healthy_since: float | None = None
        """In true time; None from the beginning of a fault until the node has recovered."""
        self.logs: list[Path] = []
        self.database_url = installation.settings["ISSUER_DATABASE_URL"]
        """The URL of the database through the link of this node."""
        self._installation = installation
        self._server: Server | None = None
        # Each request has a new connection, and so reaches any of the workers.
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{installation.port}",
            trust_env=False,
            timeout=pace.answer,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    @property
    def port(self) -> int:
        return self._installation.port

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        """Start it without waiting for it."""
        self._server = self._installation.serve(workers=WORKERS)
        self.logs.append(self._server.log)

    def is_healthy(self, asked_at: float, settling: float) -> bool:
        """Return whether it is healthy, and has been since `settling` seconds before `asked_at`."""
        return self.healthy_since is not None and self.healthy_since + settling <= asked_at

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        os.killpg(self.server.process.pid, number)

    def workers(self) -> list[int]:
        """Return the pids of the running workers."""
        group = self.server.process.pid
        return [pid for pid in self.server.worker_pids if is_running(pid, group=group)]

    async def until_healthy(self) -> None:
        """Wait until it is healthy; fail after the time limit."""
        deadline = time.monotonic() + self.pace.recovery
        stable_since: float | None = None
        while stable_since is None or time.monotonic() - stable_since < STABLE_SECONDS:
            assert time.monotonic() < deadline, f"{self.name} did not recover:\n{self.server.output[-3000:]}"
            code = self.server.process.poll()
            assert code is None, f"{self.name} ended with {code}:\n{self.server.output[-3000:]}"
            stable = await self.is_ready() and len(self.workers()) == WORKERS
            stable_since = (stable_since or time.monotonic()) if stable else None
            await asyncio.sleep(LOOK_SECONDS)
        self.healthy_since = time.time()

    async def is_ready(self) -> bool:
        """Return whether `/readyz` answers 200."""
        try:
            answer = await self.http.get("/readyz")
        except httpx2.TransportError:
            return False
        return answer.is_success
