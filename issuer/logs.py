"""Configures the log: one JSON object for each line, or readable text on a terminal; for libraries, too.

Logging never raises and never blocks the code that logs. Lines have the id in `request_id`. The access log is in
`web.http.access_log`; writing is left to `log_output`.
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
"""The id of the current request; None outside of requests."""


_output: LogOutput | None = None
"""The output of this process; None before `configure_log`."""


def configure_log() -> None:
    """Log to standard error; tracebacks have no local variables, which may be secret."""
    global _output  # noqa: PLW0603 - a process has one standard error, and loggers are made when modules are imported
    common: list[Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso"),
    ]
    stream = sys.stderr.below if isinstance(sys.stderr, UnfailingStream) else sys.stderr
    rendered = _terminal_processors() if _is_terminal(stream) else _json_processors()
    if _output is None:
        atexit.register(flush_log)
    else:
        _output.close()
    _output = LogOutput(stream)
    structlog.configure(
        processors=[*common, *rendered],
        wrapper_class=_UnfailingLogger,
        logger_factory=lambda *_: _LineLogger(),
    )
    handler = _UnfailingHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.raiseExceptions = False  # would print errors to standard error directly
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


def serve_with_log() -> None:
    """Redirect everything printed to standard error to the log output, which never blocks."""
    if _output is not None and not isinstance(sys.stderr, OutputStream):
        below = sys.stderr.below if isinstance(sys.stderr, UnfailingStream) else sys.stderr
        sys.stderr = OutputStream(below, _output)


def flush_log() -> None:
    """Write buffered lines, as long as the reader reads."""
    if _output is not None:
        _output.flush()


def dropped_lines() -> int:
    """Return how many lines this process could not write."""
    return _output.dropped if _output else 0


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


def _write_rendering_error(error: Exception) -> None:
    """Write that a line could not be rendered, without its values, which may be the reason."""
    _write(
        f'{{"event": "log line could not be rendered", "level": "error", "reason": "{type(error).__name__}"}}'
    )


class _LineLogger:
    """The logger that structlog wraps; it has no state, so that bound loggers stay valid after a reconfiguration."""

    def msg(self, line: str) -> None:
        """Write a line."""
        _write(line)

    debug = info = warning = error = critical = msg


class _UnfailingLogger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]
    """structlog's logger, without exceptions of its processors: the repr of a value may raise any."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> None:
        try:
            super()._proxy_to_logger(method_name, event, **event_kw)
        except Exception as error:  # noqa: BLE001 - see the class
            _write_rendering_error(error)


class _UnfailingHandler(logging.Handler):
    """The same for libraries, which use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            _write(self.format(record))
        except Exception as error:  # noqa: BLE001 - as above
            _write_rendering_error(error)


def terminal_safe(text: str) -> str:
    """Return `text` with unprintable characters replaced: names of files and users may contain control sequences."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _terminal_processors() -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.format_exc_info,
        _make_terminal_safe,
        structlog.dev.ConsoleRenderer(colors=True, exception_formatter=plain),
    ]


def _json_processors() -> list[Processor]:
    # JSON escapes line feeds and control characters.
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _make_terminal_safe(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep values from containing control sequences or imitating a line."""
    for name, value in line.items():
        if name == "exception":
            line[name] = "\n".join(map(terminal_safe, str(value).split("\n")))
        elif isinstance(value, str):
            line[name] = terminal_safe(value)
    return line


def _add_request_id(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if current := request_id.get():
        line["request_id"] = current
    return line
