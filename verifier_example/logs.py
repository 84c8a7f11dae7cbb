"""What the server's own log may tell of a request: its path where the service has it, and never the query.

Callers put tokens in either by mistake, and uvicorn writes both. What the service itself logs is told in `app`.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LOGGERS = ("uvicorn.access", "uvicorn.error")
"""Requests are told by the first, WebSockets by the second."""


class _KnownPaths(logging.Filter):
    def __init__(self, paths: Iterable[str]) -> None:
        super().__init__()
        self._paths = frozenset(paths)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._shown, record.args))
        return True

    def _shown(self, argument: object) -> object:
        if not isinstance(argument, str) or not argument.startswith("/"):
            return argument
        path = argument.partition("?")[0]
        return path if path in self._paths else "/*"


@contextmanager
def known_paths_only(paths: Iterable[str]) -> Iterator[None]:
    """Let uvicorn log no other path than these in the block."""
    only = _KnownPaths(paths)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(only)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(only)
