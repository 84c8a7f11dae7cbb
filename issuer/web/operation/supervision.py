"""Keeps the background tasks of a process running, and ends the process when it cannot.

A task that ends for any reason is restarted after a pause. A task without progress, because it keeps ending or a
thread hangs, makes the process unready, then unhealthy, and then ends it; the process manager starts another one. The
tasks are defined in `background`.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from issuer.callbacks import notify
from issuer.keyring.policy import Policy
from issuer.logs import flush_log

log = structlog.get_logger("issuer.background")

TICK_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
CHECK_AGAIN_SECONDS = 10.0
EVENT_LOOP_SECONDS = 60.0
"""How long the event loop may be blocked before the process ends."""
FINISH_SECONDS = 15.0
"""How long a process that ends itself may take to finish open requests."""
CANCEL_SECONDS = 5.0

Beat = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """A coroutine that never returns, and calls `beat` once in each round."""

    name: str
    run: Callable[[Beat], Coroutine[None, None, None]]
    interval: timedelta
    """The longest pause between two rounds."""


@dataclass(frozen=True)
class Limits:
    """How long a task may be without a heartbeat beyond its interval, in seconds, before each consequence."""

    unready: float
    unhealthy: float
    end: float

    @classmethod
    def of(cls, policy: Policy) -> "Limits":
        """Return the limits for a node timeout; a node has stopped signing by the time it is unready."""
        timeout = policy.node_timeout.total_seconds()
        return cls(max(timeout, 10.0), max(2 * timeout, 30.0), max(3 * timeout, 60.0))


class BackgroundCheck(Protocol):
    """A check that runs in the background."""

    result: bool | None
    """None until it is known."""

    def start(self) -> None:
        """Start the check again, unless it is running."""


class ThreadCheck:
    """A check that may hang: it runs on a thread of its own, and nothing waits for it."""

    def __init__(self, check: Callable[[], bool]) -> None:
        self.result: bool | None = None
        self._check = check
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the check again, unless it is running."""
        if self._thread and self._thread.is_alive():
            self.result = None  # it hangs
            return
        self._thread = threading.Thread(target=self._run, name="check", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            self._thread, self.result = None, True

    def _run(self) -> None:
        try:
            self.result = self._check()
        except Exception:
            log.exception("replacement check failed")
            self.result = True


@dataclass
class _Watched:
    task: Task
    since_beat: float = 0.0
    """Seconds since the latest beat in which this process ran."""
    pause: float = FIRST_PAUSE_SECONDS
    restart_in: float = 0.0
    was_started: bool = False
    running: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def overdue(self) -> float:
        return self.since_beat - self.task.interval.total_seconds()

    def beat(self) -> None:
        self.since_beat, self.pause = 0.0, FIRST_PAUSE_SECONDS


class Supervisor:
    """Starts tasks, restarts them, and derives the health of the process from them.

    The process is ended only if `can_be_replaced`: if no new process could start, because the database cannot be
    reached, this one continues to serve the JWKS that it has.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        limits: Limits,
        *,
        restarted: Callable[[str], None],
        can_be_replaced: BackgroundCheck,
        end: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = [_Watched(task) for task in tasks]
        self._limits = limits
        self._restarted = restarted
        self._can_be_replaced = can_be_replaced
        self._end = end
        self._sleep = sleep
        self._monotonic = monotonic
        self._since_check: float | None = None
        self.ticks = 0
        self.has_ended = False
        """Whether the supervisor has ended the process."""

    async def run(self) -> None:
        """Supervise until cancelled."""
        before = self._monotonic()
        try:
            while True:
                for each in self._watched:
                    self._keep_running(each)
                await self._sleep(TICK_SECONDS)
                now = self._monotonic()
                # Time in which the process was stopped (SIGSTOP, sleep) does not count.
                self._advance(min(max(0.0, now - before), 2 * TICK_SECONDS))
                before = now
        finally:
            await self._cancel()

    @property
    def overdue(self) -> dict[str, float]:
        """How many seconds each task has been overdue."""
        return {each.task.name: max(0.0, each.overdue) for each in self._watched}

    @property
    def unready(self) -> str | None:
        """Why the process is not ready, or None."""
        return self._without_heartbeat(self._limits.unready)

    @property
    def unhealthy(self) -> str | None:
        """Why the process should be restarted, or None."""
        return self._without_heartbeat(self._limits.unhealthy) if self._can_be_replaced.result else None

    def _without_heartbeat(self, limit: float) -> str | None:
        late = [each.task.name for each in self._watched if each.overdue >= limit]
        return f"no heartbeat from the background task {', '.join(late)}" if late else None

    def _keep_running(self, each: _Watched) -> None:
        if each.running is not None and each.running.done():
            _log_end(each.task.name, each.running)
            each.running, each.restart_in = None, each.pause
            each.pause = min(2 * each.pause, LONGEST_PAUSE_SECONDS)
        if each.running is None and each.restart_in <= 0:
            if each.was_started:
                notify(self._restarted, each.task.name)
            each.was_started = True
            each.running = asyncio.create_task(each.task.run(each.beat), name=each.task.name)

    def _advance(self, seconds: float) -> None:
        """Add elapsed time, and end the process if a task has been overdue for too long."""
        self.ticks += 1
        for each in self._watched:
            each.since_beat += seconds
            each.restart_in -= seconds
        longest = max(each.overdue for each in self._watched)
        if longest < self._limits.unhealthy:
            self._since_check, self._can_be_replaced.result = None, None
            return
        if self._since_check is None or self._since_check >= CHECK_AGAIN_SECONDS:
            self._since_check = 0.0
            self._can_be_replaced.start()
        self._since_check += seconds
        if longest >= self._limits.end and self._can_be_replaced.result and not self.has_ended:
            self.has_ended = True
            log.critical("process ends to be restarted", reason=self._without_heartbeat(self._limits.end))
            self._end()

    async def _cancel(self) -> None:
        running = [each.running for each in self._watched if each.running and not each.running.done()]
        for each in running:
            each.cancel()
        if running:  # a thread that hangs cannot be cancelled
            await asyncio.wait(running, timeout=CANCEL_SECONDS)


def _log_end(name: str, task: "asyncio.Task[None]") -> None:
    error = RuntimeError("it was cancelled") if task.cancelled() else task.exception()
    log.error("background task ended, restarting", task=name, exc_info=error)


def end_process() -> None:
    """End this process as by SIGTERM, or forcibly if it does not finish in time."""
    threading.Thread(target=_exit_after_grace, name="end", daemon=True).start()
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_after_grace() -> None:
    time.sleep(FINISH_SECONDS)
    _exit()


def _exit() -> None:
    flush_log()
    os._exit(1)


class Watchdog:
    """A thread that ends the process when its event loop is blocked, and so the supervisor, too."""

    def __init__(
        self,
        ticks: Callable[[], int],
        exit_now: Callable[[], None] = _exit,
        wait: Callable[[float], bool] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ticks = ticks
        self._exit_now = exit_now
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._monotonic = monotonic

    def start(self) -> None:
        """Start watching on a thread."""
        threading.Thread(target=self.watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching, as the process is about to end."""
        self._stopped.set()

    def watch(self) -> None:
        """Watch until `stop`."""
        seen, blocked, before = -1, 0.0, self._monotonic()
        while not self._wait(TICK_SECONDS):
            now, ticks = self._monotonic(), self._ticks()
            blocked += min(max(0.0, now - before), 2 * TICK_SECONDS)  # as in `Supervisor.run`
            before = now
            if ticks != seen:
                seen, blocked = ticks, 0.0
            elif blocked >= EVENT_LOOP_SECONDS:
                log.critical("process ends to be restarted", reason="the event loop is blocked")
                self._exit_now()
                return
