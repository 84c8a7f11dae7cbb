"""Recognizes errors from a lack of threads, memory, file descriptors or disk space, after which a client may retry.

The response is left to the application.
"""

import errno

KINDS: tuple[type[Exception], ...] = (RuntimeError, MemoryError, OSError)
"""The exceptions for which `is_shortage` may return True."""
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
    """Whether `error` means that the operating system has no more of a resource for this process."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno in _NUMBERS
        case RuntimeError():
            return str(error) == _NO_THREAD
    return False
