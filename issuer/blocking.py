"""Keeps blocking calls off the event loop, which serves all requests of the process.

Code that may block (on a database, an HSM or another server) calls `require_blocking_allowed()` first, which raises
WouldBlock on that thread. Running the work again on another thread is left to `web.http.fast_path`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class WouldBlock(BaseException):
    """A blocking call on the event loop's thread; nothing has changed yet, so another thread can run the work again.

    Not an Exception, so that no handler of failures catches it.
    """


@contextmanager
def forbid_blocking() -> Iterator[None]:
    """Forbid blocking calls on this thread within the block: they raise WouldBlock."""
    _thread.is_blocking_forbidden = True
    try:
        yield
    finally:
        _thread.is_blocking_forbidden = False


def is_blocking_allowed() -> bool:
    """Whether blocking calls are allowed on this thread."""
    return not getattr(_thread, "is_blocking_forbidden", False)


def require_blocking_allowed() -> None:
    """Raise WouldBlock on a thread that must not block."""
    if not is_blocking_allowed():
        raise WouldBlock
