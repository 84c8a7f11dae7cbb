"""Signatures beside the event loop, for a process that is alone and has a core to spare.

A signature is most of what a token costs, and needs no interpreter lock. Where each core has a worker of its own,
handing over costs more than it brings.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Aside:
    """A thread that does its part of one event loop's work, and ends with the process.

    Where nobody else waits, handing over would only take time.
    """

    def __init__(self) -> None:
        self._asking = 0
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._is_called = False
        threading.Thread(target=self._serve, name="aside", daemon=True).start()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done on either thread; it must not wait for anything but a core."""
        self._asking += 1
        try:
            await asyncio.sleep(0)  # who has arrived, too, gets this far
            if self._asking == 1:
                return work()
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._jobs.put((work, future))
            return await future
        finally:
            self._asking -= 1

    def _serve(self) -> None:
        while True:
            work, future = self._jobs.get()
            try:
                outcome = partial(future.set_result, work())
            except BaseException as error:  # noqa: BLE001 - whoever waits handles it, and the thread goes on
                outcome = partial(future.set_exception, _carried(error))
            self._done.append(partial(_tell, future, outcome))
            if not self._is_called:  # one call tells all that is done till then
                self._is_called = True
                with suppress(RuntimeError):  # the loop has ended, and nobody waits
                    future.get_loop().call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._is_called = False  # first, so that what is done from now on calls again
        while self._done:
            self._done.popleft()()


def _carried(error: BaseException) -> Exception:
    """Return `error`, or another in its place if it is none that a future may bring."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = RuntimeError("it failed on its thread")
    carried.__cause__ = error
    return carried


def _tell(future: "asyncio.Future[Any]", outcome: Callable[[], None]) -> None:
    if not future.done():  # or nobody waits any more
        outcome()
