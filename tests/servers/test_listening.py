"""Verifiers that listen to real servers: a revocation reaches all of them, and no stop cuts or waits for them."""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from support.servers import HOST, PATIENCE_SECONDS, Installation, Server, eventually, free_port, is_running
from support.shared_database import use_postgresql

LISTENERS = 300
ADDRESSES = 3
PATH = "/.well-known/jwks.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "verifying.md"


class Answer(NamedTuple):
    """An answer to a listener."""

    status: int
    etag: str
    granted: bool


class Listener:
    """A connection on which a request for the JWKS waits."""

    def __init__(self, port: int, etag: str, number: int = 0) -> None:
        source = (f"127.0.0.{2 + number % ADDRESSES}", 0)
        self._port, self._source = port, source
        self._connect(etag)

    def _connect(self, etag: str) -> None:
        self.socket = socket.create_connection((HOST, self._port), PATIENCE_SECONDS, self._source)
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nPrefer: wait=30\r\n\r\n"
        self.socket.sendall(head.encode())

    def close(self) -> None:
        self.socket.close()

    def answer(self) -> Answer:
        """Wait for the head of the answer."""
        with self.socket, self.socket.makefile("rb") as lines:
            status = int(lines.readline().split()[1])
            headers = {}
            while line := lines.readline().strip().lower().decode():
                name, _, value = line.partition(": ")
                headers[name] = value
        return Answer(status, headers.get("etag", ""), headers.get("preference-applied") == "wait=30")

    def other_set(self, etag: str) -> Answer:
        """Listen until there is another set: a machine may be busy for longer than a listener waits."""
        while (answer := self.answer()).status == 304 and answer.granted:
            self._connect(etag)
        return answer


def listening(installation: Installation) -> int:
    text = installation.http.get(f"{installation.url}/metrics").text
    return sum(
        int(float(value))
        for value in re.findall(r"^issuer_jwks_listeners(?:{.*})? (\S+)$", text, re.MULTILINE)
    )


def etag_of(installation: Installation) -> str:
    return installation.key_set().headers["etag"]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(stack: ExitStack, installation: Installation, count: int) -> list[Listener]:
    """Open listeners from several addresses, and wait until all of them are known."""
    etag, before = etag_of(installation), listening(installation)
    listeners = [Listener(installation.port, etag, number) for number in range(count)]
    for each in listeners:
        stack.callback(each.close)
    eventually(lambda: listening(installation) == before + count, "all are listening")
    return listeners


def test_a_revocation_reaches_every_listener_of_every_worker_and_other_requests_are_answered_meanwhile(
    initialized: Installation, opened: ExitStack
) -> None:
    initialized.serve(workers=2).until_ready()
    etag, kid = etag_of(initialized), initialized.key_set().json()["keys"][0]["kid"]
    listeners = listen(opened, initialized, LISTENERS)
    for _ in range(20):
        assert initialized.http.get(f"{initialized.url}/healthz").is_success
    assert initialized.command("keys", "revoke", kid, "--reason", "leaked", "--yes").code == 0
    answers = [each.other_set(etag) for each in listeners]
    assert {(answer.status, answer.granted) for answer in answers} <= {(200, True), (200, False)}
    assert sum(answer.granted for answer in answers) > 0
    assert etag not in {answer.etag for answer in answers}
    assert listening(initialized) == 0


def test_a_revocation_reaches_the_listeners_of_all_nodes_on_postgresql(
    installation: Installation, postgresql: str, opened: ExitStack
) -> None:
    use_postgresql(installation, postgresql)
    nodes = [installation.serve().until_ready(), installation.serve(port=free_port()).until_ready()]
    etag, kid = etag_of(installation), installation.key_set().json()["keys"][0]["kid"]
    listeners = [Listener(node.port, etag) for node in nodes for _ in range(10)]
    for each in listeners:
        opened.callback(each.close)
    eventually(lambda: listening(installation) == 10, "those of one node are listening")
    assert installation.command("keys", "revoke", kid, "--reason", "leaked", "--yes").code == 0
    answers = {each.other_set(etag) for each in listeners}
    assert {answer.status for answer in answers} == {200}
    assert etag not in {answer.etag for answer in answers}


def test_the_documented_commands_listen(initialized: Installation) -> None:
    initialized.serve().until_ready()
    (block,) = re.findall(r"^```bash\n(.*?)```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = block.replace("http://127.0.0.1:8000", initialized.url)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], capture_output=True, check=True)
    assert done.stdout.startswith(b"HTTP/1.1 304 ")
    assert b"\r\npreference-applied: wait=5\r\n" in done.stdout.lower()


def test_listeners_that_disconnect_are_forgotten(initialized: Installation, opened: ExitStack) -> None:
    initialized.serve().until_ready()
    listeners = listen(opened, initialized, 50)
    for each in listeners[:40]:
        each.close()
    eventually(lambda: listening(initialized) == 10, "only the others are counted")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_answers_all_listeners_and_does_not_wait_for_them(
    initialized: Installation, opened: ExitStack, workers: int
) -> None:
    server = initialized.serve(workers=workers).until_ready()
    etag = etag_of(initialized)
    listeners = listen(opened, initialized, 100)
    server.process.terminate()
    assert {each.answer() for each in listeners} == {Answer(304, etag, granted=False)}
    assert server.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_answers_all_listeners_while_the_server_still_serves(
    initialized: Installation, opened: ExitStack, workers: int
) -> None:
    server = initialized.serve("--drain", "600", workers=workers).until_ready()
    etag = etag_of(initialized)
    listeners = listen(opened, initialized, 100)
    server.process.terminate()
    assert {each.answer() for each in listeners} == {Answer(304, etag, granted=False)}
    late = Listener(initialized.port, etag)
    assert late.answer() == Answer(304, etag, granted=False)
    server.process.send_signal(signal.SIGINT)
    server.process.wait(PATIENCE_SECONDS)


def test_replaced_workers_answer_their_listeners(initialized: Installation, opened: ExitStack) -> None:
    server: Server = initialized.serve(workers=2).until_ready()
    etag, before = etag_of(initialized), server.worker_pids
    listeners = listen(opened, initialized, 100)
    server.process.send_signal(signal.SIGHUP)
    assert {each.answer() for each in listeners} == {Answer(304, etag, granted=False)}
    eventually(lambda: not any(is_running(pid) for pid in before), "both are replaced")
    listen(opened, initialized, 10)
