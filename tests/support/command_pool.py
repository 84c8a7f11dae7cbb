"""Commands of `issuer` in processes of their own, forked from one that has imported everything.

Starting the interpreter and importing takes half a second of CPU, longer than nearly every command. Tests of how a
command starts, such as from which folder or with which locale, start it themselves.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Timer
from typing import NamedTuple

DRIVER = Path(__file__).with_name("command_driver.py")
OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG")
"""Variables that are read when an interpreter starts."""


class Streams(NamedTuple):
    """What a command returned."""

    code: int
    out: str
    err: str


class CommandPool:
    """Runs commands, several at once in several drivers; a driver is started when none is idle."""

    def __init__(self) -> None:
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()

    def run(
        self,
        arguments: tuple[str, ...],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdin: str,
        timeout: float,
    ) -> Streams:
        """Run `issuer` with the arguments; raise subprocess.TimeoutExpired, and end it then."""
        driver = self._driver()
        over = Timer(timeout, os.killpg, (driver.pid, signal.SIGKILL))
        with tempfile.TemporaryDirectory() as streams:
            names = [str(Path(streams) / name) for name in ("in", "out", "err")]
            Path(names[0]).write_text(stdin, "utf-8")
            case = {
                "arguments": arguments,
                "folder": str(folder),
                "traceback": f"{streams}/traceback",
                "streams": names,
                "environment": dict(environment),
                "alone": True,
            }
            over.start()
            try:
                assert driver.stdin
                assert driver.stdout
                driver.stdin.write(json.dumps(case) + "\n")
                driver.stdin.flush()
                line = driver.stdout.readline()
            finally:
                over.cancel()
            out, err = (_text(Path(name)) for name in names[1:])
            if not line:
                driver.wait()
                raise subprocess.TimeoutExpired(["issuer", *arguments], timeout, out.encode(), err.encode())
            failed = Path(streams, "traceback")
            assert not failed.exists(), (arguments, failed.read_text("utf-8"))
        self._idle.put(driver)
        return Streams(int(line), out, err)

    def close(self) -> None:
        """End the drivers."""
        with suppress(Empty):
            while True:
                driver = self._idle.get_nowait()
                driver.communicate()

    def _driver(self) -> "subprocess.Popen[str]":
        with suppress(Empty):
            return self._idle.get_nowait()
        return subprocess.Popen(
            [sys.executable, str(DRIVER), "--production"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a forked process sees the same as one that is started with these variables."""
    return all(
        os.environ.get(name) == value
        for name, value in environment.items()
        if name.startswith(OF_THE_INTERPRETER)
    )


POOL = CommandPool()
atexit.register(POOL.close)
