"""An issuer that cannot write its log or its metrics continues to work.

In each case the example starts, keys rotate, tokens are issued and refreshed, and a replay ends its session.
Supervision is tested in `test_supervised`, the log output alone in `test_log_output`.
"""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from support.components import not_possible
from support.prometheus import Samples
from support.server_pool import SERVERS, Process
from support.servers import PATIENCE_SECONDS, Installation, access_token, eventually, kid_of

PASSWORD = "violet otters juggle pancakes"
ISSUER = str(Path(sys.executable).with_name("issuer"))
CLOSED = ["bash", "-c", 'exec "$@" 2>&-', "issuer"]
ALL_CLOSED = ["bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "issuer"]
LOST = "issuer_log_lines_dropped_total"


class Running:
    """A server whose standard error is somewhere else than in a file that the test reads."""

    def __init__(self, installation: Installation, process: Process) -> None:
        self.installation = installation
        self.process = process

    def until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            with suppress(httpx2.TransportError):
                return self.installation.http.get(f"{self.installation.url}/readyz").is_success
            return False

        eventually(is_ready, "it is ready")

    def metric(self, name: str) -> float:
        answer = self.installation.http.get(f"{self.installation.url}/metrics").raise_for_status()
        return Samples(answer.text).total(name)


@contextmanager
def serving(installation: Installation, workers: int, stderr: int) -> Iterator[Running]:
    """Run `issuer serve` with that standard error."""
    with forked(installation, workers, (os.devnull, os.devnull, f"/proc/{os.getpid()}/fd/{stderr}")) as it:
        yield it


@contextmanager
def forked(
    installation: Installation, workers: int, streams: tuple[str | None, str | None, str | None]
) -> Iterator[Running]:
    """Run `issuer serve` with those standard streams."""
    process = SERVERS.start(
        "issuer",
        ["serve", "--port", str(installation.port), "--workers", str(workers)],
        folder=installation.folder,
        environment=installation._environment({}),
        streams=streams,
        workers=workers,
        prelude=installation.prelude,
    )
    with running(installation, process) as it:
        yield it


@contextmanager
def started(
    installation: Installation, workers: int, command: list[str], stderr: int | None = None
) -> Iterator[Running]:
    """Run `issuer serve` with that standard error, as an operator starts it."""
    process = subprocess.Popen(
        [*command, "serve", "--port", str(installation.port), "--workers", str(workers)],
        cwd=installation.folder,
        env=installation._environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    with running(installation, process) as it:
        yield it


@contextmanager
def running(installation: Installation, process: Process) -> Iterator[Running]:
    """End the server with the block, and fail unless it stops as it should."""
    try:
        running = Running(installation, process)
        running.until_ready()
        yield running
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def refreshed(installation: Installation, token: str) -> httpx2.Response:
    return installation.http.post(
        f"{installation.url}/oauth2/token",
        data={"grant_type": "refresh_token", "refresh_token": token, "client_id": "first-party"},
    )


def rotated(installation: Installation, token: str) -> str:
    """Return the successor of a refresh token, once its session may rotate again."""

    def successor() -> str | None:
        answer = refreshed(installation, token)
        assert answer.status_code == httpx2.codes.OK, answer.text
        other: str = answer.json()["refresh_token"]
        return other if other != token else None

    return str(eventually(successor, "the session rotates"))


def require_works(installation: Installation) -> None:
    """Fail unless keys rotate, tokens are issued and refreshed, and the view of the ring stays fresh."""
    http, url = installation.http, installation.url
    logged_in = installation.log_in("alice", PASSWORD)
    before = kid_of(access_token(logged_in))
    first = logged_in.json()["refresh_token"]
    second = refreshed(installation, first)
    third = refreshed(installation, access_token(second) and second.json()["refresh_token"])
    assert access_token(third)

    def rotates() -> bool:
        done = installation.command("keys", "rotate")
        assert done.code in {0, 3}, done
        return done.code == 0

    eventually(rotates, "the standby may sign")
    # Whoever signs with it has seen the ring since the trouble began.
    eventually(lambda: kid_of(installation.token()) != before, "another key signs")
    token = installation.token()
    installation.require_verifies(token, installation.key_set())
    assert http.get(f"{url}/readyz").status_code == httpx2.codes.OK
    assert http.get(f"{url}/healthz").json() == {"status": "ok"}
    assert installation.log_in("alice", "a wrong password").status_code == httpx2.codes.UNAUTHORIZED
    assert http.get(f"{url}/nowhere").status_code == httpx2.codes.NOT_FOUND
    assert http.get(f"{url}/metrics").status_code == httpx2.codes.OK


def require_refuses_replay(installation: Installation) -> None:
    """Fail unless a used refresh token is refused as it should be, and ends its session."""
    first = installation.log_in("alice", PASSWORD).json()["refresh_token"]
    second = rotated(installation, first)
    with closing(sqlite3.connect(installation.folder / "issuer.db")) as database, database:
        database.execute(
            "UPDATE refresh_tokens SET used_at = strftime('%Y-%m-%d %H:%M:%f000', used_at, '-1 hour')"
            " WHERE used_at IS NOT NULL"
        )
    replay = refreshed(installation, first)
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert refreshed(installation, second).status_code == httpx2.codes.BAD_REQUEST


@pytest.fixture
def ready(initialized: Installation) -> Installation:
    """An installation with a user and a machine client."""
    made = initialized.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    assert made.code == 0, made
    assert initialized.machine
    return initialized


@pytest.mark.parametrize("workers", [1, 2])
def test_with_standard_error_closed_it_starts_and_works(ready: Installation, workers: int) -> None:
    # A single process closes its own files; with workers, those of all interpreters that it starts are closed.
    with (
        started(ready, workers, [*CLOSED, ISSUER])
        if workers > 1
        else forked(ready, workers, (os.devnull, os.devnull, None))
    ) as running:
        require_works(ready)
        require_refuses_replay(ready)
        eventually(lambda: running.metric(LOST) > 0, "lost lines are counted")


@pytest.mark.parametrize("workers", [1, 2])
def test_with_all_standard_files_closed_it_starts_and_works(ready: Installation, workers: int) -> None:
    with (
        started(ready, workers, [*ALL_CLOSED, ISSUER])
        if workers > 1
        else forked(ready, workers, (None, None, None))
    ):
        require_works(ready)
        require_refuses_replay(ready)


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_the_example_starts_and_answers_with_standard_files_closed(
    initialized: Installation, closed: str
) -> None:
    command = ["bash", "-c", f'exec "$@" {closed}', "example", sys.executable, "-P", "-m", "verifier_example"]
    process = subprocess.Popen(
        [*command, "--port", str(initialized.service_port)],
        cwd=initialized.folder,
        env=initialized._environment({}),
        start_new_session=True,
    )

    def answers() -> bool:
        assert process.poll() is None, f"it ended with {process.returncode}"
        with suppress(httpx2.TransportError):
            return initialized.http.get(f"http://127.0.0.1:{initialized.service_port}/healthz").is_success
        return False

    try:
        eventually(answers, "it answers")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("workers", [1])
def test_with_standard_error_full_it_starts_and_works(ready: Installation, workers: int) -> None:
    with Path("/dev/full").open("wb") as full, serving(ready, workers, full.fileno()) as running:
        require_works(ready)
        require_refuses_replay(ready)
        eventually(lambda: running.metric(LOST) > 10, "lost lines are counted")


@pytest.mark.parametrize("workers", [2])
def test_when_the_reader_of_its_log_has_gone_it_works_on(ready: Installation, workers: int) -> None:
    reader, writer = os.pipe()
    with serving(ready, workers, writer) as running:
        os.close(writer)
        os.close(reader)
        require_works(ready)
        require_refuses_replay(ready)
        eventually(lambda: running.metric(LOST) > 10, "lost lines are counted")


@pytest.mark.parametrize("workers", [1, 2])
def test_when_the_reader_of_its_log_has_stopped_it_works_on_and_loses_no_line(
    ready: Installation, workers: int
) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reader, "rb") as log, serving(ready, workers, writer) as running:
        os.close(writer)
        for _ in range(60):  # of which the pipe holds twenty
            ready.token()
        require_works(ready)
        assert running.metric(LOST) == 0
        running.process.terminate()
        lines = log.read().decode().splitlines()
        assert all(line.startswith("{") and line.endswith("}") for line in lines)
        assert sum('"path": "/oauth2/token"' in line for line in lines) >= 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=1777", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        not_possible(f"no file system can be mounted here: {mounted.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        with suppress(OSError):
            while True:
                file.write(b"\0")
    return filler


@pytest.mark.parametrize("workers", [1, 2])
def test_with_a_full_disk_of_log_and_metrics_it_serves_and_later_logs_again(
    ready: Installation, small_disk: Path, workers: int
) -> None:
    ready.settings["TMPDIR"] = str(small_disk)
    log = small_disk / "log"
    with log.open("ab") as output, serving(ready, workers, output.fileno()) as running:
        filler = fill(small_disk)
        require_works(ready)
        require_refuses_replay(ready)
        # The last block of the file took some lines more.
        eventually(lambda: ready.token() and running.metric(LOST) > 10, "lost lines are counted")
        filler.unlink()
        ready.token()

        def is_logged() -> bool:
            return "log lines dropped" in log.read_text("utf-8").splitlines()[-1]

        eventually(is_logged, "the loss is logged")
        broken = [line for line in log.read_text("utf-8").splitlines() if not line.endswith("}")]
        assert len(broken) <= workers  # the one that was being written when the disk was full
    assert '"event": "Finished server process' in log.read_text("utf-8")


@pytest.mark.parametrize("workers", [2])
def test_it_starts_and_works_on_a_full_disk(ready: Installation, small_disk: Path, workers: int) -> None:
    ready.settings["TMPDIR"] = str(small_disk)
    output = (small_disk / "log").open("ab")
    fill(small_disk)
    with output, started(ready, workers, [ISSUER], output.fileno()):
        require_works(ready)


RAISING = """
import prometheus_client, structlog
def fail(*_, **__):
    raise RuntimeError("a counter that fails")
from issuer.web import instruments
for kind in (prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram):
    for name in ("inc", "dec", "set", "observe"):
        if hasattr(kind, name):
            setattr(kind, name, fail)
structlog.processors.JSONRenderer.__call__ = fail
"""


def test_when_every_counter_and_renderer_raises_it_works(ready: Installation) -> None:
    ready.prelude = RAISING
    with (ready.folder / "raising.log").open("wb") as log, serving(ready, 1, log.fileno()):
        require_works(ready)
        require_refuses_replay(ready)
    written = (ready.folder / "raising.log").read_text()
    assert "log line could not be rendered" in written
    assert "Traceback" not in written
