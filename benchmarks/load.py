"""Owns asking a server: wrk for so many seconds, what came of it, and the CPU that the server spent on it.

Who is asked is told in `servers`; what is made of the figures, in `cases`.
"""

import json
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from servers import DRIVER_CORES, Running, program

SCRIPT = Path(__file__).with_name("wrk.lua")


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
    driver_cores: float
    """The part of a core that the driver was busy: near 1, it is the driver that was measured."""

    @property
    def per_cpu_second(self) -> float:
        """Requests for each second of the server's CPU."""
        return 1e6 / self.cpu_us


class LoadFailed(Exception):
    """Answers were errors, or none came: nothing was measured."""


def parsed(report: str) -> dict[str, float]:
    """Return the figures in a report of wrk with this script; raise LoadFailed if a request failed."""
    lines = [line for line in report.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadFailed(f"wrk reported no figures:\n{report}")
    figures: dict[str, float] = json.loads(lines[-1])
    if figures["refused"] or figures["broken"] or not figures["requests"]:
        raise LoadFailed(
            f"of {figures['requests']} requests {figures['refused']} were refused, {figures['broken']} broke"
        )
    return figures


def wrk(
    server: Running, request: Request, connections: int, seconds: int, cores: set[int] = DRIVER_CORES
) -> Load:
    """Ask a server for so many seconds over so many connections, each waiting for its answer; raise LoadFailed."""
    environment = {
        "METHOD": request.method,
        "HEADERS": "\n".join(f"{name}: {value}" for name, value in request.headers.items()),
        "BODIES": "\n".join(request.bodies),
    }
    arguments = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(SCRIPT)]
    before, driver = server.cpu_seconds(), _children_seconds()
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - made up above
        [program("taskset", "util-linux"), "-c", ",".join(map(str, cores)), program("wrk", "wrk"), *arguments]
        + [server.url + request.path],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    spent, driver = server.cpu_seconds() - before, _children_seconds() - driver
    figures = parsed(done.stdout)
    return Load(
        requests=int(figures["requests"]),
        per_second=figures["requests"] / figures["microseconds"] * 1e6,
        p50_ms=figures["p50"] / 1000,
        p99_ms=figures["p99"] / 1000,
        cpu_us=spent / figures["requests"] * 1e6,
        driver_cores=driver / (time.perf_counter() - began),
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
