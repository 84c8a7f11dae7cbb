"""Calling what only observes the work: counters, progress, hooks. A failure there never reaches the work.

What is called, and what it counts, is left to the module that registers it.
"""

from collections import deque
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

_failures: deque[str] = deque(maxlen=100)


def notify(observer: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call `observer`; what it raises is noted for `take_failures`, and raised no further."""
    try:
        observer(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - see the module
        _failures.append(type(error).__name__)


def take_failures() -> list[str]:
    """Return the kinds of error that observers raised since the last call, the latest hundred of them."""
    return [_failures.popleft() for _ in range(len(_failures))]
