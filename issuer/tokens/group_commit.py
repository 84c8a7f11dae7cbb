"""Group commit: refreshes that come while others are being done are done together next, by two statements for all.

A commit is durable, and so it waits for the disk, and on SQLite only one can wait at a time; and each statement waits
for the database, the longer the further it is away. Together they wait once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio.to_thread

from issuer.database.errors import DatabaseDamaged
from issuer.threads import start_threads
from issuer.tokens.family_store import FamilyStore

T = TypeVar("T")
R = TypeVar("R")

MOST = 64
"""Jobs done together; so that other writers get their turn, the lock is free while what follows is done."""

LOOKS, LOOKS_FOR_MORE = 3, 10
"""Idle passes of the event loop before a batch starts; each takes some microseconds.

3, or 10 while the batch is smaller than the one before, whose callers are about to send their next request.
"""


@dataclass(eq=False)
class _Job:
    """What somebody waits for: a refresh token is looked up by its `digest`, and rotated, in the `work`."""

    digest: bytes = field(repr=False)
    work: Callable[[], Any]
    then: Callable[[Any], Any]
    is_done: "asyncio.Future[bool]"
    """Whether it was done together with others; else it must be done alone."""
    result: Any = field(default=None, repr=False)
    error: Exception | None = None
    rotates: bool = False
    """Whether it is done only once its token was rotated."""
    context: Context = field(default_factory=copy_context, repr=False)
    """Of the request, which its lines in the log name."""

    def do(self) -> None:
        self.result, self.error = None, None
        try:
            self.result = self.context.run(self.work)
        except Exception as error:  # noqa: BLE001 - whoever waits for it handles it
            self.error = error

    def finish(self) -> None:
        if self.error is None:
            try:
                self.result = self.context.run(self.then, self.result)
            except Exception as error:  # noqa: BLE001 - as above
                self.error = error

    def do_alone(self) -> None:
        self.do()
        self.finish()

    def tell(self, *, is_done: bool) -> None:
        if not self.is_done.done():  # else nobody waits any more
            self.is_done.set_result(is_done)

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class Batches:
    """Does jobs on a thread of its own, all that wait at once together.

    What is not as simple as a token that is known, readable, unused, and asked for once, is done alone, where it
    holds up nobody. A job may be done twice, of which the first time leaves nothing behind.
    """

    def __init__(self, families: FamilyStore) -> None:
        self._families = families
        self._thread = ThreadPoolExecutor(1, "batches")
        self._beside: ThreadPoolExecutor | None = None
        self._waiting: list[_Job] = []
        self._taken_before = 0
        self._working: asyncio.Task[None] | None = None

    def finish_beside(self) -> None:
        """Let a second core do its part of what `run` does `then`, beginning while the first commits."""
        self._beside = ThreadPoolExecutor(1, "beside")

    def start(self) -> None:
        """Start the threads; raise RuntimeError if that cannot be done."""
        for executor in filter(None, (self._thread, self._beside)):
            start_threads(executor, 1)

    async def run(self, digest: bytes, work: Callable[[], T], then: Callable[[T], R]) -> R:
        """Return what `then` makes of what `work` returned, once what that changed is durable.

        What takes long and needs no database belongs into `then`. It changes nothing, as it may be done in vain.
        """
        job = _Job(digest, work, then, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), context=Context())
        if not await job.is_done:
            await anyio.to_thread.run_sync(job.do_alone)
        result: R = job.outcome()
        return result

    def close(self) -> None:
        """Let the threads go."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._beside:
            self._beside.shutdown(wait=False)  # whoever waits for what it was given is the other thread

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._gathered()
            jobs = self._taken()
            try:
                done = await loop.run_in_executor(self._thread, self._do, jobs)
            except BaseException as error:  # noqa: BLE001 - closed or worse: who waits must not wait for ever
                done = frozenset(jobs)
                for job in jobs:
                    job.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
            for job in jobs:
                job.tell(is_done=job in done)

    async def _gathered(self) -> None:
        """Let come along who arrives just now: a batch of one costs nearly as much as a batch of ten."""
        seen = in_vain = 0
        while len(self._waiting) < MOST:
            if in_vain >= (LOOKS if len(self._waiting) >= self._taken_before else LOOKS_FOR_MORE):
                return
            await asyncio.sleep(0)
            in_vain = in_vain + 1 if len(self._waiting) == seen else 0
            seen = len(self._waiting)

    def _taken(self) -> Sequence[_Job]:
        """Take the next jobs; of those with one token the first, as it is another token after that."""
        taken: dict[bytes, _Job] = {}
        left = []
        for job in self._waiting:
            if len(taken) == MOST or job.digest in taken:
                left.append(job)
            else:
                taken[job.digest] = job
        self._waiting, self._taken_before = left, len(taken)
        return list(taken.values())

    def _do(self, jobs: Sequence[_Job]) -> frozenset[_Job]:
        """Do what can be done together, and return it."""
        unfinished: deque[_Job] = deque()
        beside: Future[None] | None = None
        try:
            found = self._families.find_all([job.digest for job in jobs])
            simple = [job for job in jobs if job.digest in found and found[job.digest].token.used_at is None]
            with self._families.putting_off(found) as rotations:
                for job in simple:
                    before = len(rotations)
                    job.do()
                    job.rotates = len(rotations) > before
            unfinished.extend(simple)
            if self._beside:
                beside = self._beside.submit(_finish, unfinished.popleft)
            rotated = self._families.rotate_all(rotations)
        except DatabaseDamaged:  # perhaps for one of them alone
            unfinished.clear()
            if beside:
                beside.result()
            return frozenset()
        except Exception as error:  # noqa: BLE001 - whoever waits for it handles it
            unfinished.clear()
            if beside:
                beside.result()
            for job in jobs:
                job.error = job.error or error
            return frozenset(jobs)
        _finish(unfinished.pop)
        if beside:
            beside.result()
        return frozenset(job for job in simple if job.error or not job.rotates or job.digest in rotated)


def _finish(take: Callable[[], _Job]) -> None:
    """Finish jobs until there are no more to take."""
    with suppress(IndexError):
        while True:
            take().finish()
