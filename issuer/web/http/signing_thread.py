"""Signatures beside the event loop, for a process that is alone and has a core to spare.

A signature is most of what a token costs, and needs no interpreter lock. One at a time is made beside; those that
come meanwhile are made by the loop, so that both cores sign and neither waits for the other. Where each core has a
worker of its own, handing over costs more than it brings.
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
    """A thread that does its part of one event loop's work, and ends with the process.

    Where nobody else waits, handing over would only take time.
    """

    def __init__(self) -> None:
        self._asking = 0
        self._is_busy = False
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        threading.Thread(target=self._serve, name="signing", daemon=True).start()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done on either thread; it must not wait for anything but a core."""
        self._asking += 1
        try:
            await asyncio.sleep(0)  # who has arrived, too, gets this far
            if self._asking == 1 or self._is_busy:
                return work()
            self._is_busy = True
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
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                future.get_loop().call_soon_threadsafe(self._tell, future, outcome)

    def _tell(self, future: "asyncio.Future[Any]", outcome: Callable[[], None]) -> None:
        self._is_busy = False
        if not future.done():  # or nobody waits any more
            outcome()


def _carried(error: BaseException) -> Exception:
    """Return `error`, or another in its place if it is none that a future may bring."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = RuntimeError("it failed on its thread")
    carried.__cause__ = error
    return carried
