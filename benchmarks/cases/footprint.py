"""Memory of an idle process, and the time from its start to the first response."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cases.tokens import client_credentials
from load import loading
from rounds import Bench, Case, Contestant, Findings, Sample, folder_of
from servers import installed, issuer, provider, recipe
from support.servers import Installation

SETTLE_SECONDS = 2.0
START_SECONDS = 30.0
WORKER, ALONE = "issuer, each of 2 workers", "issuer, the one process of 1 worker"
PEER, RECIPE = "oidc-provider", "FastAPI + PyJWKClient"
IDLE, LOADED = "{}, idle", "{}, after a second of load"
STARTED, FIRST = "issuer, started again", "issuer, started for the first time"
JWKS = "/.well-known/jwks.json"


def pss_mib(pid: int) -> float:
    """Return the memory of a process, what it shares divided among those who share it (PSS)."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"no PSS of {pid}")
    return int(found[1]) / 1024


def memory(pids: list[int]) -> Sample:
    """Return the mean memory of processes."""
    return {"pss_mib": sum(map(pss_mib, pids)) / len(pids)}


def memories(bench: Bench, folder: Path, stack: ExitStack) -> dict[str, Sample]:
    """Measure the memory of each kind of server once: it hardly varies."""
    bench.tell("footprint: memory")
    two = stack.enter_context(installed(folder / "two"))
    two_workers = issuer(two, workers=2)
    one = stack.enter_context(installed(folder / "one"))
    alone = issuer(one)
    places = {WORKER: list(two_workers.workers), ALONE: list(alone.workers)}
    asked = {WORKER: (two_workers, two), ALONE: (alone, one)}
    bare = stack.enter_context(recipe(folder, one))
    places[RECIPE] = [bare.pid]
    theirs = provider(folder, ("unused", "unused-secret"), one.service_url)
    if peer := bench.unless_missing(stack, "memory beside a peer", theirs):
        places[PEER] = [peer.pid]
    time.sleep(SETTLE_SECONDS)
    found = {IDLE.format(who): memory(pids) for who, pids in places.items()}
    for who, (server, installation) in asked.items():
        loading(server, client_credentials(installation.machine), 8, 1)()
        found[LOADED.format(who)] = memory(places[who])
    return found


def until_answered(url: str) -> None:
    """Ask over and over until the answer is 200."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((parts.hostname or "", parts.port or 0), START_SECONDS) as asking:
                asking.sendall(request)
                if asking.recv(16).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.002)
    raise TimeoutError(url)


def started(installation: Installation) -> Sample:
    """Start an issuer that has been started before, and stop it."""
    began = time.perf_counter()
    server = installation.serve()
    until_answered(installation.url + JWKS)
    took = time.perf_counter() - began
    server.stop()
    return {"seconds": took}


def first(folders: Iterator[Path]) -> Sample:
    """Start an issuer in an empty folder: it makes tables and keys."""
    with installed(next(folders)) as installation:
        return started(installation)


def peer_started(opened: Callable[[], Any], path: str) -> Sample:
    """Start a peer, and stop it."""
    began = time.perf_counter()
    with opened() as running:
        until_answered(running.url + path)
        return {"seconds": time.perf_counter() - began}


def measure(bench: Bench) -> Findings:
    """Measure both."""
    with folder_of(bench, "footprint") as folder, ExitStack() as stack:
        with ExitStack() as while_measured:
            memory_found = memories(bench, folder, while_measured)
        again = stack.enter_context(installed(folder / "again"))
        started(again)
        turns: dict[str, Contestant] = {
            STARTED: partial(started, again),
            FIRST: partial(first, (folder / f"first-{number}" for number in count())),
        }
        usual = partial(recipe, folder, again)
        turns[f"{RECIPE}, started"] = partial(peer_started, usual, "/openapi.json")
        theirs = partial(provider, folder, ("unused", "unused-secret"), again.service_url)
        if f"{PEER}, idle" in {*memory_found}:
            turns[f"{PEER}, started"] = partial(peer_started, theirs, "/jwks")
        rounds = bench.taking_turns("footprint", turns)
    medians = rounds.medians()
    rows = {
        "memory": memory_found[IDLE.format(WORKER)]["pss_mib"],
        "cold-start": medians[STARTED]["seconds"],
    }
    return Findings({**memory_found, **medians}, rows)


CASE = Case("footprint", ("memory", "cold-start"), measure)
