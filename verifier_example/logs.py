"""Limits what the server's own log shows of a request, and writes it without delaying requests.

It shows the path of a request only if the service has it, and never the query: callers put tokens in either by
mistake, and uvicorn writes both. What the service itself logs is defined in `app`.
"""

import logging
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

LOGGERS = ("uvicorn.access", "uvicorn.error")
"""The first logs requests, the second WebSockets."""

RECORDS_MOST = 10_000
"""How many lines wait for a reader that has stopped reading; what comes after that is dropped."""
LAST_SECONDS = 1.0


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


class _Aside(logging.Handler):
    """Hands records to a thread, which may wait for the reader of the log; the event loop must not."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = handlers
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(RECORDS_MOST)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self._records.put_nowait(record)

    def finish(self) -> bool:
        """Write what waits, within twice LAST_SECONDS; return whether all of it was written."""
        try:
            self._records.put(None, timeout=LAST_SECONDS)  # there is room once the reader goes on
        except queue.Full:
            return False
        self._thread.join(LAST_SECONDS)
        return not self._thread.is_alive()

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            for handler in self._handlers:
                with suppress(Exception):  # or the thread would end, and no further line be written
                    if record.levelno >= handler.level:
                        handler.handle(record)


@contextmanager
def written_aside() -> Iterator[None]:
    """Within the block, a thread writes what is logged to standard output and error: their reader may stall."""
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", *LOGGERS)]
    before = []
    for logger in loggers:
        handlers = logger.handlers[:]
        standard = [each for each in handlers if getattr(each, "stream", None) in {sys.stdout, sys.stderr}]
        if standard:
            aside = _Aside(standard)
            logger.handlers = [*(each for each in handlers if each not in standard), aside]
            before.append((logger, handlers, aside))
    try:
        yield
    finally:
        for logger, handlers, aside in before:
            if aside.finish():  # or what follows would wait, too
                logger.handlers = handlers
