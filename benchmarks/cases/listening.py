"""What verifiers that listen cost the issuer: the memory of 5000 open requests, and how soon a change reaches them.

A change is a revocation by the command; the time counts from its decision, before the next key is made.
"""

import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from selectors import EVENT_READ, DefaultSelector

from cases.footprint import JWKS, SETTLE_SECONDS, pss_mib
from rounds import Bench, Case, Contestant, Findings, Sample, folder_of
from servers import Running, installed, issuer
from support.servers import HOST, PATIENCE_SECONDS, Installation, eventually

LISTENERS = 5000
ADDRESSES = 5
"""One address may have half of the connections of a worker."""
REVOCATIONS, ASKED = 5, 200
IDLE, LISTENING = "2 workers, idle", f"2 workers, {LISTENERS} listeners"


def ask(connection: socket.socket, etag: str) -> None:
    """Listen, as long as the issuer grants."""
    head = f"GET {JWKS} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nPrefer: wait=30\r\n\r\n"
    connection.sendall(head.encode())


@contextmanager
def connected(port: int) -> Iterator[list[socket.socket]]:
    """Yield a connection for each listener, from several addresses."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                socket.create_connection((HOST, port), PATIENCE_SECONDS, (f"127.0.0.{2 + n % ADDRESSES}", 0))
            )
            for n in range(LISTENERS)
        ]


def read_answer(connection: socket.socket) -> None:
    """Read a whole response."""
    answer = b""
    while True:
        if not (part := connection.recv(65536)):
            raise ConnectionError("a listener was cut off")
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if end and len(body) >= int(length[1] if length else 0):
            return


def until_answered(connections: list[socket.socket]) -> list[float]:
    """Return when each connection has its answer."""
    at: list[float] = []
    with DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, EVENT_READ, connection)
        while len(at) < len(connections):
            for key, _ in selector.select(PATIENCE_SECONDS):
                read_answer(key.data)
                selector.unregister(key.data)
                at.append(time.time())
    return at


def beside(installation: Installation) -> Sample:
    """Return how long other requests take."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        installation.http.get(f"{installation.url}/healthz").raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
    p50, p99 = (sorted(took)[ASKED * percent // 100] for percent in (50, 99))
    return {"p50_ms": p50, "p99_ms": p99}


def workers(server: Running, installation: Installation) -> Sample:
    """Return the memory of both workers together, and how long other requests take."""
    time.sleep(SETTLE_SECONDS)
    return {"pss_mib": sum(map(pss_mib, server.workers)), **beside(installation)}


def listen(connections: list[socket.socket], installation: Installation) -> None:
    """Let all connections listen."""
    etag = installation.key_set().headers["etag"]
    for connection in connections:
        ask(connection, etag)
    eventually(lambda: listeners(installation) == LISTENERS, "all are listening")


def listeners(installation: Installation) -> int:
    """Return how many listeners the issuer counts."""
    text = installation.http.get(f"{installation.url}/metrics").text
    found = re.search(r"^issuer_jwks_listeners (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def revoked(connections: list[socket.socket], installation: Installation) -> Sample:
    """Revoke the key that signs, and return how soon the listeners have their answers."""
    listen(connections, installation)
    listed = installation.command("keys", "list", "--json").document["keys"]
    kid = next(key["kid"] for key in listed if key["phase"] == "current")
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(until_answered, connections)
        done = installation.command("keys", "revoke", kid, "--reason", "benchmark", "--yes")
        if done.code:
            raise RuntimeError(done.err)
        at = sorted(answered.result())
    ring = installation.saved_ring() or {}
    revoked_at = next(key["revoked_at"] for key in ring["keys"] if key["kid"] == kid)
    began = datetime.fromisoformat(revoked_at).timestamp()
    return {"half_seconds": at[len(at) // 2] - began, "seconds": at[-1] - began}


def measure(bench: Bench) -> Findings:
    """Measure all of it with one server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with folder_of(bench, "listening") as folder, installed(folder / "issuer") as installation:
        server = issuer(installation, workers=2)
        bench.tell("listening: memory")
        found = {IDLE: workers(server, installation)}
        with connected(installation.port) as connections:
            listen(connections, installation)
            found[LISTENING] = workers(server, installation)
            until_answered(connections)
            turns: dict[str, Contestant] = {"revocation": partial(revoked, connections, installation)}
            found |= bench.taking_turns("listening", turns, REVOCATIONS).medians()
    each = (found[LISTENING]["pss_mib"] - found[IDLE]["pss_mib"]) * 1024 / LISTENERS
    return Findings({**found, "each listener": {"pss_kib": each}})


CASE = Case("listening", (), measure)
