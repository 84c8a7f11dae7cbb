"""How commands print: tables for people, JSON for scripts, errors as one line with an exit code."""

import json
import os
import pwd
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from issuer.logs import harmless
from issuer.oauth import OAuthError
from issuer.policy import instant
from issuer.refusal import KeyRingError, NothingToDo, Refused
from issuer.settings import BadSettings, load_settings
from issuer.store.database import StoreError
from issuer.wiring import Issuer, build

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Row = Mapping[str, str | int | None]


class Exit(IntEnum):
    """What a script learns from a command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOTHING_TO_DO = 4


class CommandError(Exception):
    """A command cannot be done; the message says what to do."""


@contextmanager
def opened(*, expect_tables: bool = True, node: bool = False) -> Iterator[Issuer]:
    """Yield the issuer for the settings of this process; say so when, unexpectedly, that made the tables.

    What is done with it is done by who runs this command, or by this process as a `node`.
    """
    issuer = build(load_settings(), actor=None if node else operator())
    try:
        yield issuer
    finally:
        issuer.close()
        if expect_tables and issuer.database.is_new:
            sys.stderr.write(
                f"note: {issuer.database} had no tables, so they were made; if the issuer runs elsewhere, go to its"
                " folder or set ISSUER_DATABASE_URL\n"
            )


def operator() -> str:
    """Return who runs this command, for the audit."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        name = str(os.getuid())
    by = f" for {os.environ['SUDO_USER']}" if os.environ.get("SUDO_USER") else ""
    return f"{name}{by} on {socket.gethostname()}"


def console() -> Console:
    """Return the terminal; a pipe gets lines wide enough to keep each row whole."""
    piped = not sys.stdout.isatty()
    return Console(width=160 if piped else None, highlight=False, soft_wrap=piped)


def show(document: Mapping[str, object], *, as_json: bool, rows: Sequence[Row] = (), says: str = "") -> None:
    """Print a result: `document` for scripts, or `rows` as a table and a sentence for people."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    terminal = console()
    if rows:
        terminal.print(table(rows))
    if says:
        terminal.print(says, markup=False, soft_wrap=True)  # what is copied must not be broken


def table(rows: Sequence[Row]) -> Table:
    """Return `rows` as a table under the names of their members; a column without any value is left out."""
    drawn = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in names:
        drawn.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(harmless(str(row[name] or "-"))) for name in names))
    return drawn


def warn(text: str) -> None:
    """Print a warning to standard error."""
    sys.stderr.write(f"warning: {harmless(text)}\n")


def fail(error: Exception, *, as_json: bool) -> Exit:
    """Print `error` and return the exit code for it; raise it again if it is none that commands know."""
    match error:
        case Refused():
            code, name = Exit.REFUSED, "refused"
        case NothingToDo():
            code, name = Exit.NOTHING_TO_DO, "nothing to do"
        case OAuthError() | StoreError() | KeyRingError() | BadSettings() | CommandError() | OSError():
            code, name = Exit.FAILED, "failed"
        case _:
            raise error
    allowed_from = error.allowed_from if isinstance(error, Refused) else None
    if as_json:
        document = {"error": name, "message": str(error)}
        if allowed_from:
            document["allowed_from"] = instant(allowed_from)
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stderr.write(f"{name}: {error}\n")
    return code
