"""The log: a JSON object a line, or readable where standard error is a terminal; uvicorn's own lines too.

Logging never raises and never waits: whatever goes wrong with a line, the work that logs it goes on. Which request a
line belongs to is defined by `request_id`; what is logged of each request, in `web.http.access_log`; writing is left
to `log_output`.
"""

import atexit
import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import Processor

from issuer.log_output import LogOutput
from issuer.standard_streams import OutputStream, UnfailingStream

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; None outside of requests."""


_output: LogOutput | None = None
"""Where this process logs."""


def configure_log() -> None:
    """Let this process log to standard error, tracebacks without the values of variables: some are secret."""
    global _output  # noqa: PLW0603 - a process has one standard error, and loggers are made when modules are imported
    described: list[Processor] = [
        _tell_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso"),
    ]
    stream = sys.stderr.below if isinstance(sys.stderr, UnfailingStream) else sys.stderr
    rendered = _on_a_terminal() if _is_terminal(stream) else _for_machines()
    if _output is None:
        atexit.register(flush_log)
    else:
        _output.close()
    _output = LogOutput(stream)
    structlog.configure(
        processors=[*described, *rendered],
        wrapper_class=_UnfailingLogger,
        logger_factory=lambda *_: _LineLogger(),
    )
    handler = _UnfailingHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*described, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.raiseExceptions = False  # it would print to standard error, past the output
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


def serve_with_log() -> None:
    """Send everything that is printed to standard error through the log output, which waits for no reader."""
    if _output is not None and not isinstance(sys.stderr, OutputStream):
        below = sys.stderr.below if isinstance(sys.stderr, UnfailingStream) else sys.stderr
        sys.stderr = OutputStream(below, _output)


def flush_log() -> None:
    """Write the lines that wait for a reader, as long as somebody reads."""
    if _output is not None:
        _output.flush()


def lines_lost() -> int:
    """Return how many lines this process could not write."""
    return _output.lost if _output else 0


def is_log_failing() -> bool:
    """Whether the latest line could not be written."""
    return _output is not None and _output.is_failing


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):  # None, or closed
        return False


def _write(line: str) -> None:
    if _output is not None:
        _output.write(line + "\n")


def _write_instead(error: Exception) -> None:
    """Write that a line could not be rendered; what it held may be what cannot be shown."""
    _write(
        f'{{"event": "a log line could not be rendered", "level": "error", "reason": "{type(error).__name__}"}}'
    )


class _LineLogger:
    """What structlog hands rendered lines to; it has no state, so that bound loggers outlive a new configuration."""

    def msg(self, line: str) -> None:
        """Write a line."""
        _write(line)

    debug = info = warning = error = critical = msg


class _UnfailingLogger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]
    """structlog's logger, but for what its processors raise: the repr of a value may raise anything."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> None:
        try:
            super()._proxy_to_logger(method_name, event, **event_kw)
        except Exception as error:  # noqa: BLE001 - see the class
            _write_instead(error)


class _UnfailingHandler(logging.Handler):
    """The same for lines of libraries, which use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            _write(self.format(record))
        except Exception as error:  # noqa: BLE001 - as above
            _write_instead(error)


def terminal_safe(text: str) -> str:
    """Return `text` without what a terminal would obey: names of files and people may hold anything."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _on_a_terminal() -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.format_exc_info,
        _tame,
        structlog.dev.ConsoleRenderer(colors=True, exception_formatter=plain),
    ]


def _for_machines() -> list[Processor]:
    # JSON has an escape for whatever could break a line.
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _tame(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the words of strangers from being obeyed by a terminal, or from looking like another line."""
    for name, value in line.items():
        if name == "exception":
            line[name] = "\n".join(map(terminal_safe, str(value).split("\n")))
        elif isinstance(value, str):
            line[name] = terminal_safe(value)
    return line


def _tell_request(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if told := request_id.get():
        line["request_id"] = told
    return line
