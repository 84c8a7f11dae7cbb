"""The terminal of a command: colours by meaning, shortened key ids, and a status line during longer work.

Tables are drawn by `tables`; what is printed is decided by `output` and the commands.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from issuer.keyring.plan import PLACEHOLDER
from issuer.logs import terminal_safe

STYLES = {
    "current": "green",
    "standby": "cyan",
    "previous": "yellow",
    "retired": "dim",
    "revoked": "red",
    "passed": "green",
    "note": "bold",
    "warning": "bold yellow",
    "failed": "bold red",
}
"""Colours by meaning: those of the phases of a key, and those of results."""
MEANINGS = {
    "activated": "current",
    "signs from now on": "current",
    "published": "standby",
    "imported": "standby",
    "is published": "standby",
    "leaves the JWKS": "previous",
    "ok": "passed",
    "up to date": "passed",
    "behind": "warning",
    "not responding": "failed",
    "refused": "failed",
    "Error": "failed",
    "invalid": "failed",
    "NOT VERIFIED": "failed",
    "valid": "passed",
}
"""Words of commands with the meaning of one of the `STYLES`."""

KID_SHOWN = 8
"""The characters of a kid that people see; commands accept any unique prefix."""
SHORTENED = "…"
_KID = re.compile(r"""(?<![\w./"'-])([\w-]{8})[\w-]{35}(?![\w/"'-]|\.\w)""", re.ASCII)
"""A kid in prose, a thumbprint of SHA-256 in base64url. One in quotes, or in the name of a file, is to be copied."""
_LABEL = re.compile(r"^(?:failed|warning|note|Error):", re.MULTILINE)


def console() -> Console:
    """Return a console on standard output; a pipe gets lines wide enough for a row each."""
    piped = not sys.stdout.isatty()
    # No emoji: `:key:` in a name is a name.
    return Console(width=160 if piped else None, highlight=False, soft_wrap=piped, emoji=False)


def error_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False, emoji=False)


def style_of(word: str) -> str:
    """Return the style for a phase, an event or a result; empty for any other text."""
    return STYLES.get(MEANINGS.get(word, word), "")


def short_kid(kid: str) -> str:
    """Return a kid as tables show it; one that a dry run invents for a key to be made, without its number."""
    if kid.startswith(PLACEHOLDER):
        return PLACEHOLDER
    return kid if len(kid) <= KID_SHOWN else kid[:KID_SHOWN] + SHORTENED


def shorten_kids(text: str) -> str:
    """Return `text` with the kids in it shortened, except those to be copied."""
    return _KID.sub(rf"\1{SHORTENED}", text)


def prose(text: str) -> Text:
    """Return lines without control characters; those that begin with `warning:` or the like are coloured."""
    drawn = Text(plain(text))
    drawn.highlight_regex(_LABEL, style=lambda label: style_of(label.rstrip(":")))
    return drawn


def plain(text: str) -> str:
    """Return `text` without control characters other than line feeds."""
    return "\n".join(map(terminal_safe, text.split("\n")))


def complain(label: str, message: str) -> None:
    """Print one line to standard error, such as `failed: …`."""
    line = Text.assemble((f"{label}:", style_of(label)), f" {shorten_kids(terminal_safe(message))}")
    error_console().print(line, soft_wrap=True)


def is_animated(*, as_json: bool) -> bool:
    """Whether progress may be drawn: on standard error, if it is a terminal that can move its cursor."""
    return not as_json and sys.stderr.isatty() and not error_console().is_dumb_terminal


@contextmanager
def status(text: str, *, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Show what takes longer in a line that disappears at the end; yield a function that changes its text.

    Nothing else may be printed meanwhile.
    """
    if not is_animated(as_json=as_json):
        yield lambda _: None
        return
    from rich.live import Live  # noqa: PLC0415 - most commands are done before one could read a status
    from rich.spinner import Spinner  # noqa: PLC0415 - as above

    spinner = Spinner("line", Text(text), style=STYLES["passed"])
    with Live(spinner, console=error_console(), transient=True, redirect_stdout=False, redirect_stderr=False):
        yield lambda other: spinner.update(text=Text(terminal_safe(other)))
