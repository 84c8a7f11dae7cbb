"""Slow and idle connections to the issuer and the example service: each ends in time."""

import re
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
from support.certificates import certificate
from support.raw_http import (
    get,
    post,
    start,
    statuses,
)
from support.servers import HOST, PATIENCE_SECONDS, Installation, eventually

DRIBBLE_SECONDS = 0.1


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_a_slow_head_a_slow_body_and_a_silent_connection_end(initialized: Installation, which: str) -> None:
    server = start(initialized, which, "--head-timeout", "1", "--body-timeout", "1", "--keep-alive", "1")
    slow = {
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ": [b"408"],
        post("/login", body=b"a" * 100)[:-50]: [b"408"] if which == "issuer" else [b"404"],
        b"": [],
        get(): [b"200"],  # and nothing more
        get() + b"GET /": [b"200", b"408"],
        b"\r\n": [],
    }
    with ExitStack() as stack:
        connections = {}
        for sent in slow:
            connection = stack.enter_context(
                socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS)
            )
            connection.sendall(sent)
            connections[sent] = connection
        for sent, connection in connections.items():
            with connection.makefile("rb") as received:
                assert statuses(received.read()) == slow[sent], sent
    eventually(lambda: "head_timeout" in server.output, "the log says why")


def dribble(connection: socket.socket, data: bytes, over: threading.Event) -> None:
    with suppress(OSError):
        while not over.wait(DRIBBLE_SECONDS):
            connection.sendall(data)


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_a_byte_now_and_then_prolongs_nothing(initialized: Installation, which: str) -> None:
    server = start(initialized, which, "--head-timeout", "1", "--body-timeout", "1")
    begun = (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
        post("/login", body=b"a" * 9000)[:-8000],
        b"\r\n",
    )

    def until_ended(sent: bytes) -> None:
        over = threading.Event()
        with socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(sent)
            thread = threading.Thread(
                target=dribble, args=(connection, b"\r\n" if sent == b"\r\n" else b"a", over)
            )
            thread.start()
            try:
                with suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
            finally:
                over.set()
                thread.join()

    with ThreadPoolExecutor(len(begun)) as at_once:
        list(at_once.map(until_ended, begun))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_connection_is_kept_for_more_than_a_minute_by_default(
    initialized: Installation, workers: int
) -> None:
    server = initialized.serve("--keep-alive", "1", workers=workers).until_ready()
    with closing(HTTPConnection(HOST, server.port, timeout=PATIENCE_SECONDS)) as kept:
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        assert kept.sock.recv(1) == b""
    help_ = initialized.command("serve", "--help").out
    assert re.search(r"--keep-alive.*", help_)
    assert "75" in help_


def test_a_tls_handshake_that_never_ends_is_ended_and_counts_as_a_connection(
    initialized: Installation, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    options = ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key), "--head-timeout", "2"]
    server = initialized.serve(*options, "--max-connections", "20")
    context = ssl.create_default_context(cafile=str(cert))

    def ask() -> bool:
        with suppress(httpx2.TransportError):
            url = f"https://{HOST}:{server.port}/healthz"
            return httpx2.get(url, verify=context, trust_env=False).is_success
        return False

    eventually(ask, "it serves")
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
            for _ in range(100)
        ]
        assert ask()
        for connection in silent:
            with suppress(ConnectionError):
                assert connection.recv(100) == b""
        assert ask()
