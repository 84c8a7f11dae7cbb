"""Group commit: jobs that come while others are being done are done together next, in one transaction.

A commit is durable, and so it waits for the disk; on SQLite only one can wait at a time. Together they wait once.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from issuer.oauth import OAuthError
from issuer.store.database import Database

T = TypeVar("T")
R = TypeVar("R")

MOST = 64
"""Jobs in one transaction; so that other writers get their turn, the lock is free while what follows is done."""

SIDE_BY_SIDE = 4
"""Jobs at once on PostgreSQL: more would wait for each other longer than for the database."""


@dataclass(eq=False)
class _Job:
    """What somebody waits for; a job that is refused, OAuthError, is done."""

    work: Callable[[], Any]
    then: Callable[[Any], Any]
    future: "asyncio.Future[Any]"
    result: Any = field(default=None, repr=False)
    error: Exception | None = None
    context: Context = field(default_factory=copy_context, repr=False)
    """Of the request, which its lines in the log name."""

    def do(self) -> None:
        self.result, self.error = None, None
        try:
            self.result = self.context.run(self.work)
        except OAuthError as error:
            self.error = error

    def do_alone(self) -> None:
        try:
            self.do()
        except Exception as error:  # noqa: BLE001 - whoever waits for it handles it
            self.error = error

    def finish(self) -> None:
        if self.error is None:
            try:
                self.result = self.context.run(self.then, self.result)
            except Exception as error:  # noqa: BLE001 - as above
                self.error = error

    def tell(self) -> None:
        if self.future.done():  # nobody waits any more
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Batches:
    """Does jobs on a thread of its own, all that wait at once in one transaction.

    A job may be done twice, of which the first time leaves nothing behind. On PostgreSQL each is done by itself:
    there they wait for the disk side by side.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(1 if database.is_sqlite else SIDE_BY_SIDE, "batches")
        self._beside: ThreadPoolExecutor | None = None
        self._waiting: list[_Job] = []
        self._working: asyncio.Task[None] | None = None

    def finish_beside(self) -> None:
        """Let a second core do what `run` does `then`, while the first does the work of others and commits."""
        self._beside = ThreadPoolExecutor(1, "beside")

    async def run(self, work: Callable[[], T], then: Callable[[T], R]) -> R:
        """Return what `then` makes of what `work` returned, once what that changed is durable.

        What takes long and needs no database belongs into `then`: nobody else can write while `work` is done. It
        changes nothing, as it may be done for a transaction that fails.
        """
        if not self._database.is_sqlite:
            work_alone = partial(copy_context().run, lambda: then(work()))
            return await asyncio.get_running_loop().run_in_executor(self._threads, work_alone)
        job = _Job(work, then, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), context=Context())
        result: R = await job.future
        return result

    def close(self) -> None:
        """Let the threads go."""
        for threads in (self._threads, self._beside):
            if threads:
                threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(0)  # what has arrived already comes along
            jobs, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                await loop.run_in_executor(self._threads, self._do, jobs)
            except RuntimeError as error:  # it was closed: who waits must not wait for ever
                for job in jobs:
                    job.error = error
            for job in jobs:
                job.tell()

    def _do(self, jobs: Sequence[_Job]) -> None:
        doing: _Job | None = None
        finishing: list[Future[None]] = []
        try:
            with self._database.together():
                for doing in jobs:
                    doing.do()
                    if self._beside:
                        finishing.append(self._beside.submit(doing.finish))
                doing = None
        except Exception as error:  # noqa: BLE001 - whoever waits for it handles it
            wait(finishing)  # for nothing
            finishing.clear()
            for job in jobs:
                if doing is None:  # the transaction itself failed, as it would for each
                    job.error = error
                else:  # one of them failed, and nobody else shall suffer by it
                    job.do_alone()
        wait(finishing)
        if not finishing:
            for job in jobs:
                job.finish()
