"""A node of the soak: `issuer serve` with two workers, behind its own line to the database.

What befalls it is told in `faults`, what it must do all the same in `watch`.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx2
from support.servers import Installation, Server, is_running

from soak.network import Line
from soak.rules import Pace

WORKERS = 2
ANSWER_SECONDS = 1.0
CALM_SECONDS = 2.0
"""It is healthy again when it was ready at each look for so long: by then both workers were asked."""
LOOK_SECONDS = 0.15


class Shifted(Installation):
    """An installation on a machine whose clock is off."""

    def serve(self, *, workers: int = 1, port: int | None = None) -> Server:
        port = port or self.port
        script = str(Path(__file__).with_name("shifted.py"))
        return self._start([script, "serve", "--port", str(port), "--workers", str(workers)], port, workers)


class Node:
    """A node, and since when nothing has been wrong with it."""

    def __init__(self, name: str, installation: Installation, line: Line, pace: Pace) -> None:
        self.name = name
        self.pace = pace
        self.line = line
        self.healthy_since: float | None = None
        """In true time; None from the beginning of a fault until it has healed."""
        self.logs: list[Path] = []
        self.database_url = installation.settings["ISSUER_DATABASE_URL"]
        """The database, through the line of this node."""
        self._installation = installation
        self._server: Server | None = None
        # Each request comes on a connection of its own, and so to any of the workers.
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{installation.port}",
            trust_env=False,
            timeout=ANSWER_SECONDS,
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
        """Start it, and do not wait for it."""
        self._server = self._installation.serve(workers=WORKERS)
        self.logs.append(self._server.log)

    def is_healthy(self, asked_at: float, settling: float) -> bool:
        """Return whether it has been so since `settling` seconds before `asked_at`, and is still."""
        return self.healthy_since is not None and self.healthy_since + settling <= asked_at

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        os.killpg(self.server.process.pid, number)

    def workers(self) -> list[int]:
        """Return the pids of the workers that run."""
        group = self.server.process.pid
        return [pid for pid in self.server.worker_pids if is_running(pid, group=group)]

    async def heal(self) -> None:
        """Wait until it is healthy; fail if that takes too long."""
        deadline = time.monotonic() + self.pace.healed
        calm_since: float | None = None
        while calm_since is None or time.monotonic() - calm_since < CALM_SECONDS:
            assert time.monotonic() < deadline, f"{self.name} did not heal:\n{self.server.output[-3000:]}"
            code = self.server.process.poll()
            assert code is None, f"{self.name} ended with {code}:\n{self.server.output[-3000:]}"
            calm = await self.is_ready() and len(self.workers()) == WORKERS
            calm_since = (calm_since or time.monotonic()) if calm else None
            await asyncio.sleep(LOOK_SECONDS)
        self.healthy_since = time.time()

    async def is_ready(self) -> bool:
        """Ask it."""
        try:
            answer = await self.http.get("/readyz")
        except httpx2.TransportError:
            return False
        return answer.is_success
