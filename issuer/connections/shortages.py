"""Errors of a process that lacks threads, memory, file descriptors or disk space: the request may be tried again.

How they are answered is left to the application.
"""

import errno

KINDS: tuple[type[Exception], ...] = (RuntimeError, MemoryError, OSError)
"""What `is_shortage` can be true of."""
RETRY_SECONDS = 2

_NUMBERS = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
    }
)
_NO_THREAD = "can't start new thread"  # CPython raises a plain RuntimeError


def is_shortage(error: Exception) -> bool:
    """Whether `error` says that the operating system gives this process no more of something."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno in _NUMBERS
        case RuntimeError():
            return str(error) == _NO_THREAD
    return False
