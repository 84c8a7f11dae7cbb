"""Looking up host names on few threads of their own: a lookup has no deadline and cannot be interrupted.

Whoever waits for one sets the deadline. Threads that hang in a lookup hold up neither the end of the process nor
more than their share of other lookups.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOOKUPS_MOST = 16
"""Names that are looked up at once; each may hang for as long as the resolver of the system lets it."""


class Lookups(ThreadPoolExecutor):
    """The executor of event loops that look names up, and do nothing else on other threads.

    A subclass only because event loops accept no other kind; none of its threads are used. Whoever asks for a name
    that is being looked up already shares the answer.
    """

    def __init__(self, most: int = LOOKUPS_MOST) -> None:
        super().__init__(1)
        self._most = most
        self._pending: dict[object, Future[Any]] = {}
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Return the answer to come; it fails at once with OSError when too many lookups hang already."""
        name = (fn, args, tuple(kwargs.items()))
        future: Future[T] = Future()
        with self._lock:
            if name in self._pending:
                return self._pending[name]
            if len(self._pending) >= self._most:
                future.set_exception(OSError("too many host names are being looked up"))
                return future
            future.set_running_or_notify_cancel()  # so that it cannot be cancelled for others that wait
            self._pending[name] = future

        def look_up() -> None:
            try:
                answer = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the waiting caller handles it
                self._forget(name)
                future.set_exception(error)
            else:
                self._forget(name)
                future.set_result(answer)

        try:
            threading.Thread(target=look_up, name="lookup", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._forget(name)
            future.set_exception(OSError(str(error)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: a loop that ends waits for no lookup, and other loops use the same threads."""

    def _forget(self, name: object) -> None:
        with self._lock:
            del self._pending[name]
