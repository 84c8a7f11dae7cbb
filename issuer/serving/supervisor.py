"""How the processes of `issuer serve` stop and are replaced; everything else about them is left to uvicorn.

On SIGTERM each process reports unready on `/readyz`, serves for `--drain` seconds more, and then finishes open
requests. SIGHUP replaces the workers one by one. Ctrl-C (SIGINT) skips the drain time.
"""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from issuer import metrics_directory
from issuer.serving.patches import fork_workers_from_preloaded_process
from issuer.serving.signals import NOT_READY

log = structlog.get_logger("issuer.serve")


def run(config: uvicorn.Config, listener: socket.socket, drain_seconds: float) -> bool:
    """Serve until a signal ends the server; return whether it started."""
    if config.workers > 1:
        fork_workers_from_preloaded_process()
        workers = _Workers(config, listener, drain_seconds)
        workers.run()
        return all(process.exitcode != STARTUP_FAILURE for process in workers.processes)
    server = _SingleProcess(config, drain_seconds)
    with suppress(SystemExit):  # uvicorn's exit code has another meaning for the commands of this program
        server.run([listener])
    return server.started


class _SingleProcess(uvicorn.Server):
    """The server of a single process."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._stops_at: float | None = None
        # With a terminal, SIGHUP means that it was closed, and must end the process.
        if not _has_terminal():
            signal.signal(signal.SIGHUP, self._ignore_hangup)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on SIGTERM, and exit with 0 afterwards; leave other signals to uvicorn."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._stops_at is None:
            self._stops_at = time.monotonic() + self._drain_seconds
            signal.raise_signal(NOT_READY)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop; uvicorn calls this ten times a second."""
        if self._stops_at is not None and time.monotonic() >= self._stops_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @staticmethod
    def _ignore_hangup(_signal: int, _frame: FrameType | None) -> None:
        log.warning(
            "SIGHUP ignored: it replaces workers, and this is a single process; use --workers 2 or restart"
        )


class _Workers(Multiprocess):
    """The supervisor of several worker processes."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, drain_seconds: float) -> None:
        super().__init__(config, [listener])
        self._drain_seconds = drain_seconds
        self._is_stopping = False
        self._known: frozenset[int | None] = frozenset()
        # uvicorn would handle SIGTERM only after a replacement of all workers that is in progress.
        signal.signal(signal.SIGTERM, self._stop)
        if _has_terminal():
            signal.signal(signal.SIGHUP, self._stop)

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended, and drop the gauges of every process that is gone."""
        known = self._known | self._pids()
        try:
            super().keep_subprocess_alive()
        # Such as no memory or descriptor for a process; uvicorn calls again in half a second.
        except Exception:
            log.exception("worker supervision failed")
        running = self._pids()
        for pid in known - running:
            if pid is not None:
                metrics_directory.drop_gauges(pid)
        self._known = running

    def handle_signals(self) -> None:
        """Handle signals; a failure ends neither this process nor the workers."""
        try:
            super().handle_signals()
        except Exception:
            log.exception("signal handling failed")

    def _pids(self) -> frozenset[int | None]:
        return frozenset(process.pid for process in self.processes)

    def terminate_all(self) -> None:
        """Stop the workers, and close the listener: connections to it would wait for nothing until they are reset."""
        for each in self.sockets:
            each.close()
        super().terminate_all()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._drain_seconds:
            for process in self.processes:
                with suppress(ProcessLookupError, TypeError):  # it has ended, or was not started
                    os.kill(process.pid, NOT_READY)  # type: ignore[arg-type]
        # On another thread, because this one may hold the lock of the event in this moment.
        stop = threading.Timer(self._drain_seconds, self.should_exit.set)
        stop.daemon = True
        stop.start()


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
