"""Calls observers (metrics, progress, hooks) so that their failures never reach the work that they observe.

The observers are defined by the modules that register them.
"""

from collections import deque
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

_failures: deque[str] = deque(maxlen=100)


def notify(observer: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call `observer`; an exception is recorded for `take_failures` and not raised."""
    try:
        observer(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - see the module
        _failures.append(type(error).__name__)


def take_failures() -> list[str]:
    """Return the names of the exceptions of observers since the last call, at most the latest hundred."""
    return [_failures.popleft() for _ in range(len(_failures))]
