"""Who may wait: the thread that serves everybody's requests may not, and what would make it wait stops it here.

A database, an HSM and another server are waited for; whoever asks one of them calls `require_patience` first.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class WouldWait(BaseException):
    """The work would have to wait here, and has changed nothing yet: it may begin anew where it may wait.

    No Exception, so that nobody who handles failures takes it for one.
    """


@contextmanager
def impatient() -> Iterator[None]:
    """Let nothing wait on this thread in the block; raise WouldWait from whatever would."""
    _thread.impatient = True
    try:
        yield
    finally:
        _thread.impatient = False


def may_wait() -> bool:
    """Tell whether this thread may wait."""
    return not getattr(_thread, "impatient", False)


def require_patience() -> None:
    """Raise WouldWait on a thread that may not wait."""
    if not may_wait():
        raise WouldWait
