"""Signs on a second thread, for a single process on a machine with more than one core.

Signing is most of the cost of a token and releases the interpreter lock. The thread makes one signature at a time;
those requested meanwhile are made by the event loop, so that both cores sign and neither waits for the other. With a
worker on each core, passing work to a thread would cost more than it saves.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class SigningThread:
    """A daemon thread that takes some of the signing work of one event loop."""

    def __init__(self) -> None:
        self._callers = 0
        self._is_busy = False
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        threading.Thread(target=self._serve, name="signing", daemon=True).start()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run on either thread; it must use the processor only, and never block."""
        self._callers += 1
        try:
            await asyncio.sleep(0)  # lets other requests that have arrived call this, too
            # For a single caller the thread would only add latency.
            if self._callers == 1 or self._is_busy:
                return work()
            self._is_busy = True
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._jobs.put((work, future))
            return await future
        finally:
            self._callers -= 1

    def _serve(self) -> None:
        while True:
            work, future = self._jobs.get()
            try:
                outcome = partial(future.set_result, work())
            except BaseException as error:  # noqa: BLE001 - the caller handles it; the thread must not end
                outcome = partial(future.set_exception, _as_future_exception(error))
            with suppress(RuntimeError):  # the loop has been closed
                future.get_loop().call_soon_threadsafe(self._finish, future, outcome)

    def _finish(self, future: "asyncio.Future[Any]", outcome: Callable[[], None]) -> None:
        self._is_busy = False
        if not future.done():  # it may have been cancelled
            outcome()


def _as_future_exception(error: BaseException) -> Exception:
    """Return `error`, or a RuntimeError caused by it if a future cannot hold it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("the signing thread failed")
    wrapped.__cause__ = error
    return wrapped
