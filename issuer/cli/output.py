"""How commands print: tables for people, JSON for scripts, errors as one line with an exit code."""

import json
import os
import pwd
import socket
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import Enum, IntEnum
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from issuer.cli import INTERRUPTED
from issuer.cli.streams import OutputLost
from issuer.cli.tables import Row, draw, draw_members
from issuer.cli.terminal import complain, console, error_console, prose
from issuer.clock import instant
from issuer.database.database import Database
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, NothingToDo, Refused
from issuer.oauth import OAuthError
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings, Settings
from issuer.settings.values import reason
from issuer.wiring import build

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOTHING_TO_DO = 4
    INTERRUPTED = INTERRUPTED


class CommandError(Exception):
    """A command failed; the message says what to do."""


@contextmanager
def misuse() -> Iterator[None]:
    """Turn an invalid value into a usage error (exit 2)."""
    try:
        yield
    except (OAuthError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


class Access(Enum):
    """What a command does with the installation; only MAKE creates a missing database or key ring."""

    READ = "read"
    CHANGE = "change"
    MAKE = "make"


@contextmanager
def opened(
    access: Access = Access.MAKE, *, expect_tables: bool = True, node: bool = False
) -> Iterator[Issuer]:
    """Yield the issuer for the settings of this process; note on standard error if its tables had to be created.

    The audit log names the operator who runs the command, or for a `node` the process.
    """
    settings = load_settings()
    if access is not Access.MAKE:
        require_existing(settings, upgraded=access is Access.READ)
    issuer = build(settings, actor=None if node else operator(), reads=access is Access.READ)
    try:
        yield issuer
    except OutputLost as lost:
        if access is Access.READ:
            raise
        raise ChangeMade(lost) from None
    finally:
        issuer.close()
        if expect_tables and issuer.database.is_new:
            complain(
                "note",
                f"{issuer.database} had no tables, so they were made; if the issuer runs elsewhere, go to its folder"
                " or set ISSUER_DATABASE_URL",
            )


class ChangeMade(OutputLost):
    """A command has succeeded, but its result could not be written."""

    def __init__(self, lost: OutputLost) -> None:
        Exception.__init__(self, f"{lost}; the command itself succeeded")


def require_existing(settings: Settings, *, upgraded: bool) -> None:
    """Raise CommandError, with the location, unless the database exists, and is of this version if `upgraded`."""
    with closing(Database(settings.database_url.get_secret_value(), reads=True)) as database:
        where = (
            f"{database}: the first `issuer serve` creates it; if the issuer runs elsewhere, go to its folder or set"
            " ISSUER_DATABASE_URL"
        )
        if database.is_missing:
            raise CommandError(f"there is no database at {where}")
        if database.schema().revision is None:
            raise CommandError(f"the tables of the issuer are not in {where}")
        if upgraded and not database.is_current():
            raise CommandError(
                f"the tables in {database} are of an older version, which this command must not change;"
                " back the database up and run `issuer serve` of this version, which migrates them"
            )


def operator() -> str:
    """Return the operator who runs this command, for the audit log."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        name = str(os.getuid())
    by = f" for {os.environ['SUDO_USER']}" if os.environ.get("SUDO_USER") else ""
    return f"{name}{by} on {socket.gethostname()}"


def show(
    document: Mapping[str, object],
    *,
    as_json: bool,
    rows: Sequence[Row] = (),
    members: Row | None = None,
    hidden: Collection[str] = (),
    message: str = "",
    wrap: bool = False,
    damaged: Sequence[StoreError] = (),
) -> None:
    """Print a result: `document` as JSON, or for people first `members`, one in a line, then `rows`, and `message`.

    `rows` are a table without the `hidden` columns. Lines of `message` are printed whole, as they may be copied; with
    `wrap` they are prose, wrapped at words. If there are `damaged` rows of the database, print them last and exit 1.
    """
    errors = list(map(str, damaged))
    if as_json:
        sys.stdout.write(json.dumps({**document, "damaged": errors} if errors else document, indent=2) + "\n")
    else:
        terminal = console()
        if members:
            draw_members(members, terminal)
        if rows:
            draw(rows, terminal, hidden)
        if message:
            # Lines are copied, so they must not wrap, unless they are prose.
            terminal.print(prose(message), soft_wrap=not wrap or terminal.soft_wrap)
    sys.stdout.flush()  # raises OutputLost here, where the caller can handle it
    if errors:
        for error in errors if not as_json else ():
            complain("failed", error)
        raise typer.Exit(Exit.FAILED)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    complain("warning", text)


def fail(error: Exception, *, as_json: bool) -> Exit:
    """Print `error` and return its exit code; raise an unknown error again."""
    match error:
        case Refused():
            code, name = Exit.REFUSED, "refused"
        case NothingToDo():
            code, name = Exit.NOTHING_TO_DO, "nothing to do"
        case (
            OAuthError()
            | StoreError()
            | KeyRingError()
            | BadSettings()
            | CommandError()
            | OutputLost()
            | OSError()
        ):
            code, name = Exit.FAILED, "failed"
        case _:
            raise error
    message = _reason(error) if isinstance(error, OSError) else str(error)
    allowed_from = error.allowed_from if isinstance(error, Refused) else None
    if as_json:
        document = {"error": name, "message": message}
        if allowed_from:
            document["allowed_from"] = instant(allowed_from)
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        sys.stdout.flush()
    else:
        complain(name, message)
    return code


def fail_usage(error: TyperException, *, as_json: bool) -> int:
    """Print a usage error and return its exit code."""
    if isinstance(error.__cause__, ValidationError):  # of the library that reads values
        error.message = "; ".join(map(reason, error.__cause__.errors()))
    if as_json:
        show({"error": "usage", "message": error.format_message()}, as_json=True)
    else:
        text = StringIO()
        error.show(text)  # type: ignore[attr-defined] # each that is raised has it
        error_console().print(prose(text.getvalue().rstrip("\n")), soft_wrap=True)
    return error.exit_code


def _reason(error: OSError) -> str:
    """Return a description of an error of the operating system, with a fix where one is known."""
    try:
        Path.cwd()
    except OSError:
        return "the current folder is gone or cannot be entered; go to the folder where the issuer runs"
    named = f": {error.filename}" if error.filename is not None else ""
    match error:
        case FileNotFoundError():
            return f"no such file{named}"
        case PermissionError():
            return f"no permission{named}"
    return f"{error.strerror or error}{named}"
