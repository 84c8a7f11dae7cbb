"""How the processes of `issuer serve` stop and are replaced; all else about them is uvicorn's.

SIGTERM lets each say that it is not ready, serves on for a while, and then finishes what has begun. SIGHUP replaces
workers one by one. Ctrl-C does not wait for load balancers.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from types import FrameType, SimpleNamespace
from typing import Any

import structlog
import uvicorn
from uvicorn import _subprocess as starting
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors import multiprocess as supervising

from issuer import metrics_directory
from issuer.serving.signals import FOR_SERVERS, NOT_READY

log = structlog.get_logger("issuer.serve")

ASK_SECONDS = 0.1


def run(config: uvicorn.Config, listener: socket.socket, drain_seconds: float) -> bool:
    """Serve until a signal ends it; return whether it ever started."""
    if config.workers > 1:
        _fork_from_what_is_imported()
        workers = _Workers(config, listener, drain_seconds)
        workers.run()
        return all(process.exitcode != STARTUP_FAILURE for process in workers.processes)
    server = _Alone(config, drain_seconds)
    with suppress(SystemExit):  # uvicorn's own exit code would mean something else here
        server.run([listener])
    return server.started


class _Worker(ForkServerProcess):
    """A process that is forked from one which has imported what it needs, and shares its memory.

    It is started from nothing, as uvicorn does it by itself, where that one cannot be reached: its socket lies in the
    folder for temporary files, which may be too deep for it, or be cleaned.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - how multiprocessing starts a process of any kind
        resource_tracker.ensure_running()  # it would unblock signals when it starts
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SERVERS)  # is inherited, see `serving.preload`
        try:
            return ForkServerProcess._Popen(process_obj)  # noqa: SLF001 - as above
        except (OSError, EOFError) as error:
            log.warning(
                "a worker is started without the fork server, and shares no memory with others",
                reason=str(error),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return SpawnProcess._Popen(process_obj)  # noqa: SLF001 - as above


class _Watched(supervising.Process):
    """Supervisor-side handle of a worker.

    uvicorn keeps both ends of the pipe open, so its ping to a dead worker blocks for the full timeout; this polls
    `is_alive()` in between.
    """

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the worker answers in time; False as soon as its process has ended."""
        deadline = time.monotonic() + timeout
        while self.process.is_alive() and time.monotonic() < deadline:
            if super().ping(ASK_SECONDS):
                return True
        return False


def _fork_from_what_is_imported() -> None:
    # uvicorn has no other way to be told.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["issuer.serving.preload"])
    starting.spawn = SimpleNamespace(Process=_Worker)  # type: ignore[assignment]
    supervising.Process = _Watched  # type: ignore[misc]


class _Alone(uvicorn.Server):
    """The only process."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._leaves_at: float | None = None
        if not _has_terminal():  # one that is closed says so by SIGHUP, and then nobody is left to stop this
            signal.signal(signal.SIGHUP, self._keep_on)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM for a request and not for a failure: the exit code is 0."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._leaves_at is None:
            self._leaves_at = time.monotonic() + self._drain_seconds
            signal.raise_signal(NOT_READY)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop, ten times a second."""
        if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @staticmethod
    def _keep_on(_signal: int, _frame: FrameType | None) -> None:
        log.warning("SIGHUP replaces workers, and this is a single process: restart it, or use --workers 2")


class _Workers(Multiprocess):
    """Several processes, and the one that looks after them."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, drain_seconds: float) -> None:
        super().__init__(config, [listener])
        self._drain_seconds = drain_seconds
        self._leaving = False
        self._known: frozenset[int | None] = frozenset()
        # uvicorn would look at it only after replacing all workers, if it is at that.
        signal.signal(signal.SIGTERM, self._leave)
        if _has_terminal():
            signal.signal(signal.SIGHUP, self._leave)

    def keep_subprocess_alive(self) -> None:
        """Replace who has ended, and forget the gauges of all who are gone since, for whatever reason."""
        known = self._known | self._pids()
        try:
            super().keep_subprocess_alive()
        except Exception:  # no memory or no descriptor for another process: looked at again in half a second
            log.exception("workers could not be supervised")
        running = self._pids()
        for pid in known - running:
            if pid is not None:
                metrics_directory.drop_gauges(pid)
        self._known = running

    def handle_signals(self) -> None:
        """Do what signals ask for; what cannot be done now ends neither this process nor the workers that run."""
        try:
            super().handle_signals()
        except Exception:
            log.exception("handling a signal failed")

    def _pids(self) -> frozenset[int | None]:
        return frozenset(process.pid for process in self.processes)

    def terminate_all(self) -> None:
        """Let the workers end, and hold no listener open: nobody would take who connects to it, until it is reset."""
        for each in self.sockets:
            each.close()
        super().terminate_all()

    def _leave(self, _signal: int, _frame: FrameType | None) -> None:
        if self._leaving:
            return
        self._leaving = True
        if self._drain_seconds:
            for process in self.processes:
                with suppress(ProcessLookupError, TypeError):  # it has ended, or has not begun
                    os.kill(process.pid, NOT_READY)  # type: ignore[arg-type]
        # On another thread: this one may hold the lock of the event just now.
        stop = threading.Timer(self._drain_seconds, self.should_exit.set)
        stop.daemon = True
        stop.start()


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
