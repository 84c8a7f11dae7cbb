"""Servers, forked from a process that has imported everything; for those with workers, see `fork_servers`.

Starting the interpreter and importing takes longer than the rest of a start. Tests of the start itself begin with an
interpreter of their own.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol

DRIVER = Path(__file__).with_name("command_driver.py")
POLL_SECONDS = 0.01


class Process(Protocol):
    """What tests do with the process of a server: a part of `subprocess.Popen`."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit code, as far as it is known."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class ForkedProcess:
    """A child of the driver, whose exit code the driver writes to a file."""

    def __init__(self, pid: int, ended: Path) -> None:
        self.pid = pid
        self._ended = ended
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self._ended.exists():
            self.returncode = int(self._ended.read_text())
            self._ended.unlink()  # another process may get the same number
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"server {self.pid}", timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now, as subprocess.Popen has it
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ServerPool:
    """Starts servers."""

    def start(
        self,
        program: str,
        arguments: list[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        streams: Sequence[str | None],
        workers: int = 1,
        prelude: str = "",
    ) -> ForkedProcess:
        """Start `issuer` or `verifier_example` in a session of its own.

        Its standard streams are files, or closed: None. Each of its processes has run the lines of `prelude`, which
        may change what the program does.
        """
        case = {
            "program": program,
            "arguments": arguments,
            "folder": str(folder),
            "traceback": str(folder / "traceback"),
            "streams": streams,
            "environment": dict(environment),
            "alone": True,
            "workers": workers,
            "prelude": prelude,
        }
        driver = self._driver
        assert driver.stdin
        assert driver.stdout
        driver.stdin.write(json.dumps(case) + "\n")
        driver.stdin.flush()
        pid = int(driver.stdout.readline())
        return ForkedProcess(pid, self._exits / str(pid))

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="servers-")

    @property
    def _exits(self) -> Path:
        return Path(self._folder.name)

    @cached_property
    def _driver(self) -> "subprocess.Popen[str]":
        atexit.register(self._close)
        return subprocess.Popen(
            [sys.executable, str(DRIVER), "--production", "--servers", str(self._exits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _close(self) -> None:
        self._driver.communicate()
        self._folder.cleanup()


SERVERS = ServerPool()
