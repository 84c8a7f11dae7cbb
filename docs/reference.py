"""Writes `reference.md` from the code: settings, commands, endpoints and errors of both services.

What to do with them is told in the pages beside it. `python docs/reference.py --write`; a test compares.
"""

import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from fastapi import FastAPI
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from issuer.cli.commands import app as commands
from issuer.clock import duration
from issuer.oauth import OAuthError
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.wiring import build
from verifier_example import app as example

COLUMNS = 118
PAGE = Path(__file__).with_name("reference.md")
INTRODUCTION = """\
# Reference

What can be set, called and answered. Written from the code by `python docs/reference.py --write`: change it there.
"""
SETTINGS = """\
## Settings

From the environment or a file `.env` in the folder of the process; the environment goes first. Names may be in lower
case. Blanks, line ends and a pair of quotes around a value are ignored, and an empty value is the same as none. In
`.env` write `NAME=value`, one a line, with or without `export`; nothing in a value is expanded, so a `$` stays a `$`.
A `.env` that belongs to another user than root or the one that runs the process, or that others may write to, is
refused; so is a line that names a setting and cannot be read. Durations are seconds or `30d`, `24h`, `10m`, `45s`.
Combinations that cannot keep the promises are refused at start, with the arithmetic shown.
"""
COMMANDS = """\
## Commands

Exit codes: 0 done, 1 failed, 2 usage, 3 refused by a guard (with the instant from which it is allowed), 4 nothing to
do. Every command but `serve` and `demo` takes `--json`, which prints JSON for scripts.
"""
HTTP = """\
## HTTP

Besides the statuses that are listed, any endpoint may answer 400 for what is no request of its kind, 404 and 405 for
unknown paths and methods, 413 for a body of more than 64 KiB, 503 when the system gives the process no more threads,
memory or file descriptors, and 500 for a defect. HEAD is answered wherever GET is, OPTIONS everywhere. `/docs` of
each service shows the bodies.
"""
ERRORS = """\
## Errors of the issuer

`{"error": "…", "error_description": "…"}` (RFC 6749 section 5.2); [clients](clients.md#errors) says what to do.
"""
ERRORS_OF_THE_EXAMPLE = """\
The example service uses the same words: `invalid_request` (400, more than one token), `invalid_token` (401, none or a
bad one), `insufficient_scope` (403), `not_found` (404), `method_not_allowed` (405), `temporarily_unavailable` (503).
"""
SOCKET = """\
Its WebSocket `/greetings` takes the same tokens: in the `Authorization` header, or from a browser, which can set
none, as a subprotocol: `new WebSocket(url, ["bearer", token])`. A bad one is denied before the socket opens, and an
open one is closed when its token expires.
"""


def page() -> str:
    """Return the whole page."""
    return (
        "\n".join(
            [
                INTRODUCTION,
                SETTINGS,
                "### Of the issuer\n",
                *table(["setting", "kind", "default", "meaning"], settings(Settings)),
                "### Of the example service\n",
                *table(["setting", "kind", "default", "meaning"], settings(example.Settings)),
                COMMANDS,
                *described_commands(),
                HTTP,
                "### The issuer\n",
                *table(["endpoint", "what", "statuses"], endpoints(issuers())),
                "### The example service\n",
                *table(["endpoint", "what", "statuses"], endpoints(example.create_app())),
                SOCKET,
                ERRORS,
                *table(["error", "status", "when"], errors()),
                ERRORS_OF_THE_EXAMPLE,
            ]
        ).rstrip("\n")
        + "\n"
    )


def table(names: list[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    yield f"| {' | '.join(names)} |"
    yield f"| {' | '.join('---' for _ in names)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def settings(kind: type[BaseSettings]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, default and meaning of each setting."""
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        default = shown(field.default, seconds="ge=0" in str(field.metadata).lower())
        yield f"`{prefix}{name.upper()}`", kind_of(field), default, field.description or ""


def kind_of(field: FieldInfo) -> str:
    """Return what may be written as the value of a setting."""
    types = [field.annotation, *get_args(field.annotation)]
    bounds = {type(each).__name__: each for each in field.metadata}
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if timedelta in types or float in types:
        return "duration"
    if int in types and "Ge" in bounds:
        return f"number, {bounds['Ge'].ge} to {bounds['Le'].le}"
    names = {bool: "`true` or `false`", SecretStr: "secret", Path: "file", tuple: "list, by commas"}
    return next(
        (name for each, name in names.items() if each in types or get_origin(types[0]) is each), "text"
    )


def shown(default: object, *, seconds: bool = False) -> str:
    """Return a default as it would be written in the environment."""
    match default:
        case None | ():
            return ""
        case timedelta():
            written = duration(default)
        case SecretStr():
            written = default.get_secret_value()
        case tuple():
            written = ",".join(default)
        case bool():
            written = str(default).lower()
        case int() | float() if seconds:
            written = duration(timedelta(seconds=default))
        case _:
            written = str(default)
    return f"`{written}`"


def described_commands() -> Iterator[str]:
    """Yield a section for each group of commands, and for each command what it does and takes."""
    root: Any = typer.main.get_command(commands)
    alone = {name: each for name, each in root.commands.items() if not hasattr(each, "commands")}
    groups = {f"issuer {name}": each.commands for name, each in root.commands.items() if name not in alone}
    for title, group in {"issuer": alone, **groups}.items():
        for name, command in group.items():
            yield f"### {title} {name}\n"
            yield (
                textwrap.fill(" ".join((command.help or "").split()), COLUMNS, break_on_hyphens=False) + "\n"
            )
            rows = [option(each) for each in command.params if each.name not in {"help", "as_json"}]
            if rows:
                yield from table(["argument or option", "default", "meaning"], rows)


def option(each: Any) -> tuple[str, str, str]:
    """Return how one argument or option is written, its default and its meaning."""
    if each.param_type_name == "argument":
        return f"`{each.name.upper()}`", "needed" if each.required else "", each.help or ""
    value = "" if each.is_flag else f" {each.name.upper()}"
    written = f"`{each.opts[0]}{value}`"
    default = (
        "" if each.default in {None, False, ""} or callable(each.default) else f"`{plain(each.default)}`"
    )
    return written, "needed" if each.required else default, each.help or ""


def plain(default: Any) -> str:
    """Return a default as it is typed."""
    return str(getattr(default, "value", default))


def issuers() -> FastAPI:
    """Return the issuer's application; nothing of it is kept."""
    with tempfile.TemporaryDirectory() as folder:
        database = SecretStr(f"sqlite:///{folder}/issuer.db")
        issuer = build(Settings(database_url=database, keys=f"{folder}/keys", _env_file=None))  # type: ignore[call-arg]
        issuer.close()
        return create_app(issuer)


def endpoints(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Yield each endpoint that OpenAPI describes."""
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            statuses = (status for status in operation["responses"] if status.isdigit())
            what = operation["description"].partition("\n\n")[0].split()
            yield f"`{method.upper()} {path}`", " ".join(what), ", ".join(sorted(statuses))


def errors() -> Iterator[tuple[str, str, str]]:
    """Yield code, status and cause of each error; those that differ in neither code nor status once."""
    found: dict[tuple[int, str], str] = {}
    waiting = OAuthError.__subclasses__()
    while waiting:
        error = waiting.pop(0)
        waiting += error.__subclasses__()
        found.setdefault((error.status, error.code), (error.__doc__ or "").partition("\n")[0])
    for (status, code), cause in sorted(found.items()):
        yield f"`{code}`", str(status), cause
    yield (
        "`server_error`",
        "500",
        "An internal error; the log has the details under the id in `X-Request-Id`.",
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), "utf-8")
    else:
        sys.stdout.write(page())
