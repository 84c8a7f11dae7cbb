"""Lookup of host names on a few threads of its own: a lookup has no deadline and cannot be interrupted.

The caller sets the deadline. Threads that hang in a lookup delay neither the end of the process nor, until there are
too many of them, other lookups.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOOKUPS_MOST = 16
"""Lookups at the same time; each may hang as long as the resolver of the system does."""


class Lookups(ThreadPoolExecutor):
    """An executor for event loops that use it for lookups of host names only. Lookups of the same name are shared.

    It is a ThreadPoolExecutor because event loops accept no other executor; it starts threads of its own.
    """

    def __init__(self, most: int = LOOKUPS_MOST) -> None:
        super().__init__(1)
        self._most = most
        self._pending: dict[object, Future[Any]] = {}
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Return the future result; it is an OSError if too many lookups hang already."""
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
        """Do nothing: a loop that ends must not wait for a lookup, and other loops use the same executor."""

    def _forget(self, name: object) -> None:
        with self._lock:
            del self._pending[name]
