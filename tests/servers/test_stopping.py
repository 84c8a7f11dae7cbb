"""Stopping and replacing `issuer serve`, and TLS: no request in progress fails.

The other behaviour of its processes is tested in `test_serve.py`.
"""

import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import httpx2
import pytest
from support.certificates import certificate
from support.servers import HOST, PATIENCE_SECONDS, Installation, Server, eventually, is_free, is_running

LOG_INS = 12
LOG_IN = b"username=nobody&password=wrong"
DRAIN_SECONDS = 2
PAUSE_SECONDS = 0.01
"""On a machine that is busy with other tests, too."""


def events(server: Server) -> list[dict[str, str]]:
    """Return the lines of the log; each must be JSON."""
    return [json.loads(line) for line in server.output.splitlines()]


@contextmanager
def asking(installation: Installation, answers: list[int]) -> Iterator[None]:
    """Ask for tokens all through the block; what fails raises at its end."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(len(installation.token()))
            time.sleep(PAUSE_SECONDS)  # the workers that start need the cores, too

    with ThreadPoolExecutor(4) as clients:
        loops = [clients.submit(ask) for _ in range(4)]
        try:
            yield
        finally:
            over.set()
    for loop in loops:
        loop.result()


def begin_log_in(installation: Installation) -> socket.socket:
    """Send half of a log-in, so that it has begun and cannot be answered yet."""
    connection = socket.create_connection((HOST, installation.port), timeout=PATIENCE_SECONDS)
    head = f"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LOG_IN)}\r\n"
    connection.sendall(head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n")
    return connection


@pytest.mark.parametrize("workers", [1, 2])
def test_after_sigterm_it_is_not_ready_serves_while_it_drains_and_finishes_requests(
    initialized: Installation, workers: int
) -> None:
    server = initialized.serve("--drain", str(DRAIN_SECONDS), workers=workers).until_ready()
    assert initialized.token()
    begun = [begin_log_in(initialized) for _ in range(LOG_INS)]
    terminated_at = time.monotonic()
    server.process.terminate()
    server.process.terminate()  # a second one changes nothing

    def readiness() -> httpx2.Response:
        return initialized.http.get(f"{initialized.url}/readyz")

    eventually(lambda: readiness().status_code == 503, "it is not ready")
    assert readiness().json()["checks"] == {"process": "about to stop"}
    assert initialized.token()
    assert initialized.http.get(f"{initialized.url}/healthz").is_success
    eventually(lambda: server.output.count("Shutting down") == workers, "it stops")
    assert time.monotonic() - terminated_at >= DRAIN_SECONDS
    eventually(lambda: is_free(initialized.port), "who connects is refused, and may ask another node")
    for connection in begun:
        connection.sendall(LOG_IN)
    for connection in begun:
        with connection, connection.makefile("rb") as answer:
            assert answer.readline().split()[1] in {b"401", b"429"}
    assert server.process.wait(PATIENCE_SECONDS) == 0
    slow = "key ring needs attention"  # logged where the machine is so busy that a refresh takes seconds
    assert [line for line in events(server) if line["level"] != "info" and line["event"] != slow] == []


def ask(kept: HTTPConnection) -> HTTPResponse:
    """Try to log in, and return the answer."""
    kept.request("POST", "/login", LOG_IN, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = kept.getresponse()
    answer.read()
    return answer


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_in_flight_on_a_kept_connection_is_answered_with_connection_close(
    initialized: Installation, workers: int
) -> None:
    server = initialized.serve(workers=workers).until_ready()
    with closing(HTTPConnection(HOST, initialized.port, timeout=PATIENCE_SECONDS)) as kept:
        first = ask(kept)
        server.process.terminate()
        eventually(lambda: server.output.count("Shutting down") == workers, "it stops")
        last = ask(kept)
    assert (first.status, first.getheader("connection")) == (401, None)
    assert (last.status, last.getheader("connection")) == (401, "close")
    assert server.process.wait(PATIENCE_SECONDS) == 0


def test_sighup_replaces_the_workers_one_by_one_and_no_request_fails(initialized: Installation) -> None:
    server = initialized.serve(workers=2).until_ready()
    assert initialized.token()
    before = server.worker_pids
    (initialized.folder / ".env").write_text("ISSUER_REGISTRATION=closed\n")  # settings are read anew
    answers: list[int] = []
    with asking(initialized, answers):
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: not any(is_running(pid) for pid in before), "both are replaced")
        count = len(answers)
        eventually(lambda: len(answers) > count + 20, "the load continues")
    after = [pid for pid in server.worker_pids if is_running(pid)]
    assert len(after) == 2
    assert server.process.poll() is None
    account = {"username": "alice", "password": "violet otters juggle pancakes"}
    assert initialized.http.post(f"{initialized.url}/users", json=account).status_code == 403


def test_a_single_process_logs_that_sighup_has_no_effect_and_keeps_serving(initialized: Installation) -> None:
    server = initialized.serve().until_ready()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "SIGHUP ignored: it replaces workers" in server.output, "it says so")
    assert initialized.key_set().is_success


# TLS


def test_it_speaks_tls_for_those_without_a_proxy(initialized: Installation, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    initialized.settings["ISSUER_URL"] = url = f"https://{HOST}:{initialized.port}"
    server = initialized.serve("--ssl-certfile", str(chain), "--ssl-keyfile", str(key), workers=2)
    trust = ssl.create_default_context(cafile=chain)
    with httpx2.Client(verify=trust, trust_env=False) as client:

        def answers() -> bool:
            try:
                return client.get(f"{url}/readyz").is_success
            except httpx2.TransportError:
                return False

        eventually(answers, "it is ready")
        discovery = client.get(f"{url}/.well-known/openid-configuration").json()
        assert discovery["jwks_uri"] == f"{url}/.well-known/jwks.json"
        assert client.get(discovery["jwks_uri"]).json()["keys"]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/readyz", trust_env=False)
    assert "proxy" not in server.output
    assert server.output.count("warning") == 0
    server.stop()


def test_a_certificate_that_cannot_be_used_is_one_line(installation: Installation, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, encrypted=True)
    for arguments, says in (
        (["--ssl-certfile", str(tmp_path / "none.pem")], "no such file"),
        (["--ssl-certfile", str(chain), "--ssl-keyfile", str(key)], "must not be encrypted"),
    ):
        done = installation.command("serve", "--port", str(installation.port), *arguments)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("failed: ")
        assert says in done.err
        assert len(done.err.splitlines()) == 1
    assert not any(installation.folder.iterdir())
