"""The log of the server: it contains no secrets of requests, and writing never waits for its reader.

A path is logged only if the service has that route, and a query never: callers put tokens into either by mistake, and
uvicorn logs both. What the service itself logs is defined in `app`.
"""

import logging
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

LOGGERS = ("uvicorn.access", "uvicorn.error")
"""The first logs requests, the second WebSockets."""

MAX_QUEUED_RECORDS = 10_000
"""The number of records that wait while the reader stalls; further records are dropped."""
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
    """Within the block, uvicorn logs no other paths than these."""
    only = _KnownPaths(paths)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(only)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(only)


class _QueuedHandler(logging.Handler):
    """Passes records to a thread that may block on the log's reader; the event loop must not."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = handlers
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_QUEUED_RECORDS)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self._records.put_nowait(record)

    def finish(self) -> bool:
        """Write the queued records, within twice LAST_SECONDS; return whether all were written."""
        try:
            self._records.put(None, timeout=LAST_SECONDS)  # waits for room in the queue
        except queue.Full:
            return False
        self._thread.join(LAST_SECONDS)
        return not self._thread.is_alive()

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            for handler in self._handlers:
                with suppress(Exception):  # an exception would end the thread and with it the log
                    if record.levelno >= handler.level:
                        handler.handle(record)


@contextmanager
def logged_in_a_thread() -> Iterator[None]:
    """Within the block, a thread writes the records for standard output and error, whose reader may stall."""
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", *LOGGERS)]
    before = []
    for logger in loggers:
        handlers = logger.handlers[:]
        standard = [each for each in handlers if getattr(each, "stream", None) in {sys.stdout, sys.stderr}]
        if standard:
            queued = _QueuedHandler(standard)
            logger.handlers = [*(each for each in handlers if each not in standard), queued]
            before.append((logger, handlers, queued))
    try:
        yield
    finally:
        for logger, handlers, queued in before:
            if queued.finish():  # else the original handlers would block, too
                logger.handlers = handlers
