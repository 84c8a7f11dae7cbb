"""Group commit of refresh-token rotations: those that arrive while others are written share the next transaction.

A commit waits for the disk (on SQLite one at a time) and each statement for the network. In a group they wait once:

    event loop   run() queues a job; _gather waits a few microseconds for more; _take takes up to MOST jobs
    thread       one SELECT looks up the tokens of all jobs
    thread       each job decides: an error, or a response with a rotation that is not stored yet
    thread       one transaction stores all rotations; the second thread meanwhile begins to sign the responses
    event loop   each caller whose rotation was stored gets its signed response
    other thread every other job runs again, alone: unknown or used tokens, tokens that another node rotated first

`grants.pipeline` decides each refresh; `family_store` stores the rotations.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio.to_thread

from issuer.database.errors import DatabaseDamaged
from issuer.threads import start_threads
from issuer.tokens.family_queries import Found
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import RefreshRotation

MOST = 64
"""Jobs in one transaction. While the next one is prepared, the lock of SQLite is free for other writers."""

IDLE_PASSES, IDLE_PASSES_FOR_MORE = 3, 10
"""Passes of the event loop without a new job before a batch starts; each takes some microseconds.

3, or 10 while the batch is smaller than the one before, whose callers are about to send their next request.
"""


class Decided(Protocol):
    """The response to a refresh, complete once its rotation is stored."""

    @property
    def rotation(self) -> RefreshRotation | None:
        """What is still to be stored; None: nothing."""


D = TypeVar("D", bound=Decided)
R = TypeVar("R")


@dataclass(eq=False)
class _Job:
    """One refresh, and the caller that waits for it."""

    digest: bytes = field(repr=False)
    decide: Callable[[Found], Any]
    alone: Callable[[], Any]
    sign: Callable[[Any], Any]
    in_group: "asyncio.Future[bool]"
    """Whether it was done in the group; else it has to be done alone."""
    result: Any = field(default=None, repr=False)
    error: Exception | None = None
    rotation: RefreshRotation | None = field(default=None, repr=False)
    context: Context = field(default_factory=copy_context, repr=False)
    """That of the request, whose id its log lines carry."""

    def do_decide(self, found: Found) -> None:
        self._keep(self.decide, found)
        self.rotation = self.result.rotation if self.error is None else None

    def do_sign(self) -> None:
        if self.error is None:
            self._keep(self.sign, self.result)

    def do_alone(self) -> None:
        self._keep(self.alone)
        self.do_sign()

    def _keep(self, call: Callable[..., Any], *args: Any) -> None:
        """Keep what `call` returns or raises, for the caller that waits."""
        self.result, self.error = None, None
        try:
            self.result = self.context.run(call, *args)
        except Exception as error:  # noqa: BLE001 - raised by `outcome`
            self.error = error

    def resolve(self, *, in_group: bool) -> None:
        if not self.in_group.done():  # else the caller was cancelled
            self.in_group.set_result(in_group)

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class GroupCommit:
    """Does refreshes in groups, on a thread of its own.

    A job whose token is unknown, damaged or used is done alone, where it delays no other. A job may thus be decided
    twice; the first decision changes nothing.
    """

    def __init__(self, families: FamilyStore) -> None:
        self._families = families
        self._thread = ThreadPoolExecutor(1, "group-commit")
        self._second: ThreadPoolExecutor | None = None
        self._queued: list[_Job] = []
        self._size_before = 0
        self._working: asyncio.Task[None] | None = None

    def use_second_core(self) -> None:
        """Sign on a second thread too, beginning during the commit."""
        self._second = ThreadPoolExecutor(1, "group-signing")

    def start(self) -> None:
        """Start the threads; raise RuntimeError if that cannot be done."""
        for executor in filter(None, (self._thread, self._second)):
            start_threads(executor, 1)

    async def run(
        self, digest: bytes, decide: Callable[[Found], D], alone: Callable[[], D], sign: Callable[[D], R]
    ) -> R:
        """Return what `sign` returns for a refresh, once its rotation is stored durably.

        `decide` is given the token of this `digest` and stores nothing; `alone` does all of it, where that fails.
        `sign` may be called for a rotation that is not stored in the end, so it must change nothing.
        """
        job = _Job(digest, decide, alone, sign, asyncio.get_running_loop().create_future())
        self._queued.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), context=Context())
        if not await job.in_group:
            await anyio.to_thread.run_sync(job.do_alone)
        result: R = job.outcome()
        return result

    def close(self) -> None:
        """End the threads."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._second:
            self._second.shutdown(wait=False)  # the first thread waits for what it gave to the second

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queued:
            await self._gather()
            jobs = self._take()
            try:
                done = await loop.run_in_executor(self._thread, self._do, jobs)
            except BaseException as error:  # noqa: BLE001 - closed, or worse: no caller may wait for ever
                done = frozenset(jobs)
                for job in jobs:
                    job.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
            for job in jobs:
                job.resolve(in_group=job in done)

    async def _gather(self) -> None:
        """Wait for requests that arrive just now: a group of one costs nearly as much as a group of ten."""
        seen = idle = 0
        while len(self._queued) < MOST:
            is_smaller = len(self._queued) < self._size_before
            if idle >= (IDLE_PASSES_FOR_MORE if is_smaller else IDLE_PASSES):
                return
            await asyncio.sleep(0)
            idle = idle + 1 if len(self._queued) == seen else 0
            seen = len(self._queued)

    def _take(self) -> Sequence[_Job]:
        """Take the next jobs, one for each token: after its rotation the others find it used."""
        taken: dict[bytes, _Job] = {}
        left = []
        for job in self._queued:
            if len(taken) == MOST or job.digest in taken:
                left.append(job)
            else:
                taken[job.digest] = job
        self._queued, self._size_before = left, len(taken)
        return list(taken.values())

    def _do(self, jobs: Sequence[_Job]) -> frozenset[_Job]:
        """Do the jobs as a group and return those that are done; the others have to be done alone."""
        unsigned: deque[_Job] = deque()
        second: Future[None] | None = None
        try:
            found = self._families.find_all([job.digest for job in jobs])
            simple = [job for job in jobs if job.digest in found and found[job.digest].token.used_at is None]
            for job in simple:
                job.do_decide(found[job.digest])
            unsigned.extend(simple)
            if self._second:
                second = self._second.submit(_sign, unsigned.popleft)
            rotated = self._families.rotate_all([job.rotation for job in simple if job.rotation])
        except Exception as error:  # noqa: BLE001 - raised by `outcome`
            unsigned.clear()
            if second:
                second.result()
            if isinstance(error, DatabaseDamaged):  # perhaps for one of them only
                return frozenset()
            for job in jobs:
                job.error = job.error or error
            return frozenset(jobs)
        _sign(unsigned.pop)
        if second:
            second.result()
        return frozenset(job for job in simple if job.rotation is None or job.digest in rotated)


def _sign(take: Callable[[], _Job]) -> None:
    """Sign until there are no more jobs to take."""
    with suppress(IndexError):
        while True:
            take().do_sign()
