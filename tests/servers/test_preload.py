"""The process from which workers are forked: it has imported what they need.

If that process or the folder of its socket is lost, the server still answers.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.servers import HOST, PATIENCE_SECONDS, Installation, Server, eventually, is_running

LOOKED_AFTER_EACH_SECONDS = 0.5  # by uvicorn
BODY = b"username=nobody"
HEAD = b"\r\n".join(
    [
        b"POST /login HTTP/1.1",
        b"Host: x",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Length: %d" % len(BODY),
        b"Expect: 100-continue",
        b"",
        b"",
    ]
)


def parents(server: Server) -> set[int]:
    """Return the processes that the workers were started by."""
    return {
        int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[1]) for pid in server.worker_pids
    }


def forker(server: Server) -> int:
    """Return the process that the workers are forked from."""
    (parent,) = parents(server)
    assert parent != server.process.pid
    return parent


def running(server: Server) -> set[int]:
    return {pid for pid in server.worker_pids if is_running(pid)}


def until_replaced(installation: Installation, server: Server, before: set[int], how_many: int) -> None:
    def replaced() -> bool:
        return len(running(server)) == 2 and len(before - running(server)) == how_many

    eventually(replaced, "other workers run")
    assert installation.token()
    assert installation.http.get(f"{installation.url}/metrics").is_success


def test_workers_share_the_memory_of_imported_modules(installation: Installation) -> None:
    server = installation.serve(workers=2, is_fresh=True).until_ready()
    (parent,) = parents(server)
    assert parent != server.process.pid
    for pid in server.worker_pids:
        memory = Path(f"/proc/{pid}/smaps_rollup").read_text()
        shared = sum(map(int, re.findall(r"^Shared_\w+: +(\d+) kB", memory, re.MULTILINE)))
        private = sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", memory, re.MULTILINE)))
        assert shared > private


def test_preloaded_modules_can_be_imported() -> None:
    subprocess.run(
        [sys.executable, "-c", "import issuer.serving.preload"], check=True
    )  # multiprocessing says nothing


def kill_forker(server: Server) -> None:
    os.kill(forker(server), signal.SIGKILL)


def remove_its_socket(server: Server) -> None:
    """As something does that cleans the folder for temporary files; then a worker dies, too."""
    environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
    (temporary,) = (each.partition(b"=")[2].decode() for each in environment if each.startswith(b"TMPDIR="))
    (folder,) = Path(temporary).glob("pymp-*")
    shutil.rmtree(folder)
    os.kill(server.worker_pids[0], signal.SIGKILL)


@pytest.mark.parametrize(("harm", "how_many"), [(kill_forker, 2), (remove_its_socket, 1)])
def test_workers_are_replaced_when_that_process_has_died_or_cannot_be_reached(
    installation: Installation, harm: Callable[[Server], None], how_many: int
) -> None:
    server = installation.serve(workers=2, is_fresh=True).until_ready()
    assert installation.token()
    before = running(server)
    harm(server)
    until_replaced(installation, server, before, how_many)
    server.stop()
    assert server.process.returncode == 0
    eventually(server.has_ended, "nothing of it is left")


def have_begun(server: Server, workers: int) -> bool:
    return len(server.worker_pids) == workers


def test_workers_that_are_killed_at_any_moment_are_replaced_at_once(installation: Installation) -> None:
    server = installation.serve(workers=2).until_ready()
    for moment in range(8):
        before = len(server.worker_pids)
        time.sleep(moment * LOOKED_AFTER_EACH_SECONDS / 8)
        for pid in running(server):
            os.kill(pid, signal.SIGKILL)
        eventually(partial(have_begun, server, before + 2), "both are replaced")
    assert installation.token()


@pytest.mark.parametrize("name", ["deep" * 20, "ü" * 45])
def test_workers_start_even_if_the_path_for_temporary_files_is_long(
    installation: Installation, name: str
) -> None:
    deep = installation.temporary / name
    deep.mkdir()
    installation.settings["TMPDIR"] = str(deep)
    server = installation.serve(workers=2).until_ready()
    assert parents(server) == {server.process.pid}
    assert installation.token()
    assert server.output.count("worker spawned without shared memory") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_lets_workers_finish_their_requests(
    initialized: Installation, number: signal.Signals
) -> None:
    server = initialized.serve("--body-timeout", "300", workers=2, is_fresh=True).until_ready()
    with socket.create_connection((HOST, initialized.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(HEAD)
        with connection.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"100"  # it has begun, and continues with the body
            assert answer.readline() == b"\r\n"
            os.killpg(server.process.pid, number)
            eventually(lambda: server.output.count("Shutting down") == 2, "it stops")
            assert server.process.poll() is None
            connection.sendall(BODY)
            assert answer.readline().split()[1] == b"400"
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_ends_a_start_without_a_traceback(
    initialized: Installation, number: signal.Signals
) -> None:
    server = initialized.serve(workers=2, is_fresh=True)
    eventually(lambda: "Started parent process" in server.output, "it starts")
    os.killpg(server.process.pid, number)
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in server.output
    eventually(server.has_ended, "nothing of it is left")
