"""The latency of the JWKS during a storm of log-ins: `python benchmarks/storm.py`, on two cores, with one worker.

Many users log in at once, and retry after `Retry-After` if they are refused; another process fetches the JWKS
continuously. Clients and server share the cores, so a larger machine does better.
"""

import asyncio
import multiprocessing
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich.console import Console
from rich.table import Table
from servers import installed, keep_to_few_cores

PASSWORD = "violet otters juggle pancakes"  # noqa: S105 - of a user in a temporary folder
PAUSE_SECONDS = 0.005
"""Between two fetches of the JWKS."""


def fetch(url: str, over: Event, results: Connection) -> None:
    """Fetch `url` until it is over, and send how many milliseconds each took."""
    milliseconds = []
    with httpx2.Client(trust_env=False, timeout=30) as http:
        http.get(url)
        results.send("started")
        while not over.is_set():
            began = time.perf_counter()
            http.get(url).raise_for_status()
            milliseconds.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
    results.send(milliseconds)


@contextmanager
def fetching(url: str) -> Iterator[list[float]]:
    """Let another process fetch `url` during the block; the list is filled at its end."""
    spawn = multiprocessing.get_context("spawn")
    milliseconds: list[float] = []
    over = spawn.Event()
    results, teller = spawn.Pipe(duplex=False)
    process = spawn.Process(target=fetch, args=(url, over, teller))
    process.start()
    results.recv()
    try:
        yield milliseconds
    finally:
        over.set()
        milliseconds += results.recv()
        process.join()


async def log_in(http: httpx2.AsyncClient, answers: Counter[int]) -> float:
    """Log in, as often as it takes, and return how many seconds it took."""
    began = time.perf_counter()
    while True:
        answer = await http.post("/login", data={"username": "alice", "password": PASSWORD})
        answers[answer.status_code] += 1
        if answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
            return time.perf_counter() - began
        await asyncio.sleep(int(answer.headers["retry-after"]) + random.random())  # noqa: S311 - nobody guesses it


async def storm(url: str, people: int) -> tuple[Counter[int], list[float]]:
    """Let so many people log in at once; return what was answered, and how long each took."""
    answers: Counter[int] = Counter()
    # Who comes back seconds later comes on a new connection: the server ends those that are idle for long.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as http:
        took = await asyncio.gather(*(log_in(http, answers) for _ in range(people)))
    return answers, took


def memory(pid: int, name: str) -> int:
    """Return so many MiB of a process: `VmRSS` now, or `VmHWM` at most."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) // 1024 if found else 0


def percentile(milliseconds: list[float], hundredth: int) -> float:
    """Return what so many hundredths of them do not exceed."""
    return statistics.quantiles(milliseconds, n=100)[hundredth - 1]


def show(rows: dict[str, list[float]]) -> None:
    """Print how long the JWKS took."""
    table = Table(title="JWKS, milliseconds", title_justify="left", box=None)
    for name in ("while", "fetched", "p50", "p99", "max"):
        table.add_column(name, justify="left" if name == "while" else "right")
    for name, milliseconds in rows.items():
        percentiles = [percentile(milliseconds, 50), percentile(milliseconds, 99), max(milliseconds)]
        table.add_row(name, str(len(milliseconds)), *(f"{each:.1f}" for each in percentiles))
    Console().print(table)


def main(
    people: Annotated[int, typer.Option(min=1, help="How many log in at once.")] = 200,
    idle_seconds: Annotated[float, typer.Option(min=0, help="How long to fetch before that.")] = 5,
) -> None:
    """Measure the JWKS idle and in a storm of log-ins, and the memory of the worker."""
    keep_to_few_cores()
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder) / "issuer") as installation:
        server = installation.serve().until_ready()
        installation.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        jwks = f"{installation.url}/.well-known/jwks.json"
        before = memory(server.process.pid, "VmRSS")
        with fetching(jwks) as idle:
            time.sleep(idle_seconds)
        with fetching(jwks) as busy:
            began = time.perf_counter()
            answers, took = asyncio.run(storm(installation.url, people))
            lasted = time.perf_counter() - began
        peak = memory(server.process.pid, "VmHWM")
    show({"idle": idle, f"{people} log in": busy})
    done = answers.pop(200, 0)
    refused = ", ".join(f"{count} times {status}" for status, count in sorted(answers.items())) or "none"
    print_ = Console().print
    print_(
        f"log-ins: {done} done in {lasted:.1f} s, half of them within {statistics.median(took):.1f} s; {refused}"
    )
    print_(f"memory of the worker: {before} MiB before, {peak} MiB at most")


if __name__ == "__main__":
    typer.run(main)
