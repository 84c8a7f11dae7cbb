"""Load on a server: runs wrk for some seconds, and returns rates, latencies and the CPU time of the server.

`servers` starts the servers; `cases` uses the results.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from servers import Running, busy_seconds, program

HERE = Path(__file__).resolve().parent
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SILENCE_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """What is asked, over and over; `bodies` are sent in turn."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bodies: Sequence[str] = field(default=(), repr=False)


@dataclass(frozen=True)
class Load:
    """What came of one window of load."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """The server's CPU for each request."""
    per_cpu_second: float
    """Requests for each second of the server's CPU."""
    database_cpu_us: float
    """The CPU of a database server for each request; 0 without one."""
    driver_cores: float
    """The part of a core that the driver was busy: near 1, it is the driver that was measured."""
    others_cores: float
    """How many cores everything else on the machine kept busy: times and rates suffer, CPU hardly does."""


class LoadFailed(Exception):
    """Answers were errors, or none came: nothing was measured."""


def parsed(report: str) -> dict[str, Any]:
    """Return the numbers in the last line of a driver's report; raise LoadFailed if a request failed."""
    lines = [line for line in report.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadFailed(f"the driver reported no numbers:\n{report}")
    counts: dict[str, Any] = json.loads(lines[-1])
    if counts["refused"] or counts["broken"] or not counts["requests"]:
        raise LoadFailed(
            f"of {counts['requests']} requests {counts['refused']} were refused, {counts['broken']} broke"
        )
    return counts


def at(who: str, connections: int) -> str:
    """Name a contestant that is asked over so many connections."""
    return f"{who}, {connections} connection{'s' if connections > 1 else ''}"


def loading(
    server: Running,
    request: Request,
    connections: int,
    seconds: int,
    *,
    database: Running | None = None,
    fresh: Callable[[], Sequence[str]] | None = None,
) -> Callable[[], Mapping[str, float]]:
    """Return the contestant that wrk asks for so many seconds, each connection waiting for its answer.

    `fresh` returns the bodies for each turn instead of those of the request, when each may be sent once.
    """
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(HERE / "wrk.lua")]
    command = [program("wrk", "wrk"), *options, server.url + request.path]

    def load() -> Mapping[str, float]:
        with NamedTemporaryFile("w", encoding="utf-8") as bodies:  # too long for an environment
            bodies.write("\n".join(fresh() if fresh else request.bodies))
            bodies.flush()
            environment = {"METHOD": request.method, "HEADERS": headers, "BODIES": bodies.name}
            return asdict(_driven(server, command, database, environment=environment)[0])

    return load


class Chains:
    """Refresh tokens, each used once for the next, many chains on each connection; wrk cannot do that."""

    def __init__(self, server: Running, path: str, tokens: Sequence[Sequence[str]], client_id: str) -> None:
        """Take the first tokens of the chains of each connection."""
        self._server = server
        self._plan = {"path": path, "client_id": client_id}
        self._tokens = list(tokens)

    def refresh(self, seconds: int, database: Running | None = None) -> Mapping[str, float]:
        """Refresh every chain over and over for so many seconds; raise LoadFailed."""
        plan = {**self._plan, "url": self._server.url, "seconds": seconds, "tokens": self._tokens}
        command = [sys.executable, str(HERE / "chains.py")]
        load, counts = _driven(self._server, command, database, stdin=json.dumps(plan))
        self._tokens = counts["tokens"]
        return asdict(load)


def _driven(
    server: Running,
    command: list[str],
    database: Running | None,
    *,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> tuple[Load, dict[str, Any]]:
    """Run a driver, and return what came of it with all that it reported."""
    servers = [each.cpu_seconds() if each else 0 for each in (server, database)]
    driver, busy, began = _children_seconds(), busy_seconds(), time.perf_counter()
    done = subprocess.run(  # noqa: S603 - made up above
        command,
        env={**os.environ, **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SILENCE_SECONDS,
        check=True,
    )
    took, busy = time.perf_counter() - began, busy_seconds() - busy
    driver = _children_seconds() - driver
    spent, its = (
        (each.cpu_seconds() if each else 0) - before
        for each, before in zip((server, database), servers, strict=True)
    )
    counts = parsed(done.stdout)
    requests = counts["requests"]
    load = Load(
        requests=requests,
        per_second=requests / counts["microseconds"] * 1e6,
        p50_ms=counts["p50"] / 1000,
        p99_ms=counts["p99"] / 1000,
        cpu_us=spent / requests * 1e6,
        per_cpu_second=requests / spent if spent else 0.0,
        database_cpu_us=its / requests * 1e6,
        driver_cores=driver / took,
        others_cores=max(0.0, busy - spent - its - driver) / took,
    )
    return load, counts


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
