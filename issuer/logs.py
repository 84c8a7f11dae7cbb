"""The log: a JSON object a line, or readable where standard error is a terminal; uvicorn's own lines too.

Which request a line belongs to is told by `request_id`; what is logged of each request, in `web.requests`.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import Processor

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; None outside of requests."""


def configure_log() -> None:
    """Let this process log to standard error, tracebacks without the values of variables: some are secret."""
    described: list[Processor] = [
        _tell_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso"),
    ]
    output = sys.stderr
    rendered = _on_a_terminal() if output.isatty() else _for_machines()
    structlog.configure(
        processors=[*described, *rendered],
        logger_factory=lambda *_: structlog.WriteLogger(output),  # in one call: lines of processes stay whole
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*described, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


def harmless(text: str) -> str:
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
            line[name] = "\n".join(map(harmless, str(value).split("\n")))
        elif isinstance(value, str):
            line[name] = harmless(value)
    return line


def _tell_request(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if told := request_id.get():
        line["request_id"] = told
    return line
