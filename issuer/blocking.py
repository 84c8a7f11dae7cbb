"""Keeps blocking calls off the event loop, which serves all requests of the process.

Code that may block (on a database, an HSM or another server) calls `require_patience()` first, which raises WouldWait
on that thread. Running the work again on a thread that may block is left to `web.http.signing_thread`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class WouldWait(BaseException):
    """A blocking call on the event loop's thread; nothing has changed yet, so the work can be run again on another.

    Not an Exception, so that no handler of failures catches it.
    """


@contextmanager
def impatient() -> Iterator[None]:
    """Forbid blocking calls on this thread within the block: they raise WouldWait."""
    _thread.impatient = True
    try:
        yield
    finally:
        _thread.impatient = False


def may_wait() -> bool:
    """Whether blocking calls are allowed on this thread."""
    return not getattr(_thread, "impatient", False)


def require_patience() -> None:
    """Raise WouldWait on a thread that must not block."""
    if not may_wait():
        raise WouldWait
