"""The threads on which passwords are hashed, and the queue before them, which is shared fairly between networks.

Which requests may queue is decided in `throttling.guard`; hashing itself is done by `passwords`.
"""

import asyncio
import os
import secrets
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

from issuer.callbacks import notify
from issuer.oauth import Unavailable
from issuer.threads import start_threads

P = ParamSpec("P")
T = TypeVar("T")

QUEUE_LIMIT = 64
"""Jobs that wait for a thread. Beyond that, the network with the most of them loses one, with status 503."""
RETRY_WITHIN_SECONDS = 6
"""Retry-After is random in this range, so that refused clients do not return together."""
NICENESS_ADDED = 10
"""How much nicer hashing threads are than the process: other requests run first."""
NICENESS_MOST = 19

Place = Sequence[str]
"""The networks of a request, the largest first, then its account: jobs take turns at each level."""


class QueueFull(Unavailable):
    """Too many jobs wait for a hashing thread already."""

    def __init__(self) -> None:
        later = timedelta(seconds=1 + secrets.randbelow(RETRY_WITHIN_SECONDS))
        super().__init__("too many log-ins at once; try again later", retry_after=later)


@dataclass(eq=False)
class Job:
    """A call that waits for a thread."""

    call: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)

    def run(self) -> Callable[[], None]:
        """Make the call unless its caller was cancelled; return what sets its result."""
        if not self.future.set_running_or_notify_cancel():
            return lambda: None
        try:
            return partial(self.future.set_result, self.call())
        except BaseException as error:  # noqa: BLE001 - the waiting caller handles it
            return partial(self.future.set_exception, error)


class FairQueue:
    """A queue in which places take turns, however many jobs each of them has. Not thread-safe."""

    def __init__(self) -> None:
        self.size = 0
        self._jobs: deque[Job] = deque()
        self._places: OrderedDict[str, FairQueue] = OrderedDict()

    def put(self, job: Job, place: Place) -> None:
        """Add a job at the end of its place."""
        self.size += 1
        if place:
            self._places.setdefault(place[0], FairQueue()).put(job, place[1:])
        else:
            self._jobs.append(job)

    def next(self) -> Job:
        """Remove and return the oldest job of the next place; raise IndexError if the queue is empty."""
        if not self._places:
            job = self._jobs.popleft()
        else:
            name, queue = next(iter(self._places.items()))
            job = queue.next()
            self._places.move_to_end(name)
            self._drop_if_empty(name)
        self.size -= 1
        return job

    def shed(self) -> Job:
        """Remove and return the newest job of the place that has the most; raise IndexError if the queue is empty.

        Of several places that have the most, take the one that came last.
        """
        if not self._places:
            job = self._jobs.pop()
        else:
            name = max(reversed(self._places), key=lambda name: self._places[name].size)
            job = self._places[name].shed()
            self._drop_if_empty(name)
        self.size -= 1
        return job

    def _drop_if_empty(self, name: str) -> None:
        if not self._places[name].size:
            del self._places[name]


class HashingPool:
    """Threads for requests that hash, as many as there are cores, behind a bounded queue.

    Places take turns. When the queue is full, the place that has the most jobs loses its newest one, with status 503:
    many requests from one network delay that network only.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, "hashing", initializer=_lower_priority)
        self._queue = FairQueue()
        self._running = 0
        self._lock = threading.Lock()
        self.changed: Callable[[int], None] = lambda _jobs: None
        """Called with the number of jobs that run or wait, whenever that changes."""

    def start(self) -> None:
        """Start the threads; raise RuntimeError if that cannot be done."""
        start_threads(self._executor, self._threads)

    async def run(self, place: Place, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function` returns, off the event loop; raise QueueFull when too many wait."""
        job = Job(partial(copy_context().run, partial(function, *args, **kwargs)))
        with self._changing():
            self._queue.put(job, place)
            shed = (
                self._queue.shed() if self._queue.size + self._running > QUEUE_LIMIT + self._threads else None
            )
        if shed is not None and shed.future.set_running_or_notify_cancel():
            shed.future.set_exception(QueueFull())
        if shed is not job:
            self._executor.submit(self._run_next)
        result: T = await asyncio.wrap_future(job.future)
        return result

    def _run_next(self) -> None:
        """Run the next job, which need not be the one that this call was submitted for; none if one was shed."""
        with self._changing():
            try:
                job = self._queue.next()
            except IndexError:
                return
            self._running += 1
        hand_over = job.run()
        with self._changing():  # before the result is set: the place is free once the caller continues
            self._running -= 1
        hand_over()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
            jobs = self._queue.size + self._running
        notify(self.changed, jobs)

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            while self._queue.size:
                self._queue.next().future.cancel()


def _lower_priority() -> None:
    """Lower the priority of this thread: while it hashes, the event loop must get a core at once."""
    if sys.platform != "linux":  # elsewhere only whole processes have one
        return
    thread = threading.get_native_id()
    with suppress(Exception):  # a thread that raised here would break the whole pool
        os.setpriority(
            os.PRIO_PROCESS,
            thread,
            min(NICENESS_MOST, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS_ADDED),
        )
