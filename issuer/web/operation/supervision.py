"""Keeps the background tasks of a process running, and ends the process when that cannot be done.

What the tasks do is defined in `upkeep`. A task that ends for any reason is restarted after a pause. One that makes
no progress, as it keeps ending or a thread hangs, makes the process unready, then unhealthy, and then ends it: its
supervisor starts another.
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
ASK_AGAIN_SECONDS = 10.0
EVENT_LOOP_SECONDS = 60.0
"""How long the event loop may stand still before its process is ended."""
FINISH_SECONDS = 15.0
"""How long a process that ends itself may take to finish what it has begun."""
CANCEL_SECONDS = 5.0

Beat = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """A coroutine that never returns by itself, and calls `beat` once a round."""

    name: str
    run: Callable[[Beat], Coroutine[None, None, None]]
    interval: timedelta
    """How long it pauses between rounds at most."""


@dataclass(frozen=True)
class Limits:
    """For how long a task may show no sign of life, beyond its interval, in seconds."""

    unready: float
    unhealthy: float
    end: float

    @classmethod
    def of(cls, policy: Policy) -> "Limits":
        """Return those for R: the node has stopped signing by itself when it is called unready."""
        timeout = policy.node_timeout.total_seconds()
        return cls(max(timeout, 10.0), max(2 * timeout, 30.0), max(3 * timeout, 60.0))


class BackgroundCheck(Protocol):
    """Something that is found out in the background."""

    answer: bool | None
    """None until it is known."""

    def ask(self) -> None:
        """Begin to find out anew, unless that is under way."""


class ThreadCheck:
    """A question whose answer may hang: it is asked on a thread of its own, without waiting for it."""

    def __init__(self, find_out: Callable[[], bool]) -> None:
        self.answer: bool | None = None
        self._find_out = find_out
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Begin to find out anew, unless that is under way."""
        if self._thread and self._thread.is_alive():
            self.answer = None  # it hangs
            return
        self._thread = threading.Thread(target=self._run, name="question", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            self._thread, self.answer = None, True

    def _run(self) -> None:
        try:
            self.answer = self._find_out()
        except Exception:
            log.exception("cannot find out whether another process could take over")
            self.answer = True


@dataclass
class _Watched:
    task: Task
    silence: float = 0.0
    """Seconds since the latest beat, as far as this process ran."""
    pause: float = FIRST_PAUSE_SECONDS
    restart_in: float = 0.0
    was_started: bool = False
    running: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def overdue(self) -> float:
        return self.silence - self.task.interval.total_seconds()

    def beat(self) -> None:
        self.silence, self.pause = 0.0, FIRST_PAUSE_SECONDS


class Supervisor:
    """Starts tasks, starts them again, and judges the process by them.

    `replaceable` asks whether another process could do better: if not, as the database is out of reach, this one goes
    on publishing the JWKS that it has.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        limits: Limits,
        *,
        restarted: Callable[[str], None],
        replaceable: BackgroundCheck,
        end: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = [_Watched(task) for task in tasks]
        self._limits = limits
        self._restarted = restarted
        self._replaceable = replaceable
        self._end = end
        self._sleep = sleep
        self._monotonic = monotonic
        self._asked_ago: float | None = None
        self.ticks = 0
        self.has_ended = False
        """Whether it gave up, and ended the process."""

    async def run(self) -> None:
        """Supervise until this is cancelled."""
        before = self._monotonic()
        try:
            while True:
                for each in self._watched:
                    self._keep_running(each)
                await self._sleep(TICK_SECONDS)
                now = self._monotonic()
                # A process that was stopped and resumed has not been silent meanwhile.
                self._pass(min(max(0.0, now - before), 2 * TICK_SECONDS))
                before = now
        finally:
            await self._cancel()

    @property
    def silences(self) -> dict[str, float]:
        """For how many seconds each task has been overdue."""
        return {each.task.name: max(0.0, each.overdue) for each in self._watched}

    @property
    def unready(self) -> str | None:
        """Why the process is not ready, or None."""
        return self._silent(self._limits.unready)

    @property
    def unhealthy(self) -> str | None:
        """Why the process should be replaced, or None."""
        return self._silent(self._limits.unhealthy) if self._replaceable.answer else None

    def _silent(self, limit: float) -> str | None:
        silent = [each.task.name for each in self._watched if each.overdue >= limit]
        return f"no sign of life from the background task {', '.join(silent)}" if silent else None

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

    def _pass(self, seconds: float) -> None:
        """Take note that so much time has passed, and judge."""
        self.ticks += 1
        for each in self._watched:
            each.silence += seconds
            each.restart_in -= seconds
        longest = max(each.overdue for each in self._watched)
        if longest < self._limits.unhealthy:
            self._asked_ago, self._replaceable.answer = None, None
            return
        if self._asked_ago is None or self._asked_ago >= ASK_AGAIN_SECONDS:
            self._asked_ago = 0.0
            self._replaceable.ask()
        self._asked_ago += seconds
        if longest >= self._limits.end and self._replaceable.answer and not self.has_ended:
            self.has_ended = True
            log.critical("this process ends, to be replaced", reason=self._silent(self._limits.end))
            self._end()

    async def _cancel(self) -> None:
        running = [each.running for each in self._watched if each.running and not each.running.done()]
        for each in running:
            each.cancel()
        if running:  # a thread that hangs cannot be cancelled
            await asyncio.wait(running, timeout=CANCEL_SECONDS)


def _log_end(name: str, task: "asyncio.Task[None]") -> None:
    error = RuntimeError("it was cancelled") if task.cancelled() else task.exception()
    log.error("a background task ended and will be restarted", task=name, exc_info=error)


def end_process() -> None:
    """End this process as SIGTERM does; and if it does not finish in time, all the same."""
    threading.Thread(target=_end_at_last, name="end", daemon=True).start()
    os.kill(os.getpid(), signal.SIGTERM)


def _end_at_last() -> None:
    time.sleep(FINISH_SECONDS)
    _exit()


def _exit() -> None:
    flush_log()
    os._exit(1)


class Watchdog:
    """A thread that ends the process when its event loop stands still, and with it the supervisor."""

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
        """Watch from now on, on a thread."""
        threading.Thread(target=self.watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching: the process is about to end."""
        self._stopped.set()

    def watch(self) -> None:
        """Watch until `stop`."""
        seen, silence, before = -1, 0.0, self._monotonic()
        while not self._wait(TICK_SECONDS):
            now, ticks = self._monotonic(), self._ticks()
            silence += min(max(0.0, now - before), 2 * TICK_SECONDS)  # as in `Supervisor.run`
            before = now
            if ticks != seen:
                seen, silence = ticks, 0.0
            elif silence >= EVENT_LOOP_SECONDS:
                log.critical("this process ends, to be replaced", reason="its event loop stands still")
                self._exit_now()
                return
