"""Colours, key ids and progress on terminals and in pipes."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from issuer.cli import terminal
from issuer.cli.output import fail, show
from issuer.cli.streams import SYMBOLS
from issuer.cli.terminal import short_kid, shorten_kids
from issuer.errors import Refused

pytestmark = pytest.mark.processes
KID = "Ss3JT6Cf-OZC_gQt_IZAE-hPKngPbKemJng0CE-jo00"
SHORT = "Ss3JT6Cf…"
ESCAPE = b"\x1b["
TABLE = (
    "from issuer.cli.output import show, warn;"
    "show({}, as_json=False, rows=[{'phase': 'current', 'name': 'revoked'}, {'phase': 'revoked', 'name': 'x'}]);"
    "warn('a warning')"
)
SLOW = "from issuer.cli.terminal import status\nwith status('working', as_json={as_json}): pass"


def written(code: str, *, on_terminal: bool, **environment: str) -> bytes:
    """Run `code`, and return what it writes to a terminal or to a pipe."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # a terminal without a process
        pass
    os.close(ours)
    assert process.wait(120) == 0, text
    return text


def test_a_phase_has_its_colour_on_a_terminal_and_a_name_that_sounds_like_one_has_none() -> None:
    lines = written(TABLE, on_terminal=True).splitlines()
    assert lines[1].startswith(b"\x1b[32mcurrent\x1b[0m revoked")
    assert lines[2].startswith(b"\x1b[31mrevoked\x1b[0m x")
    assert lines[3] == b"\x1b[1;33mwarning:\x1b[0m a warning"


@pytest.mark.parametrize(
    ("on_terminal", "environment"), [(False, {}), (True, {"TERM": "dumb"}), (True, {"NO_COLOR": "1"})]
)
def test_there_is_no_colour_in_pipes_and_where_none_is_wanted(
    on_terminal: bool, environment: dict[str, str]
) -> None:
    text = written(TABLE, on_terminal=on_terminal, **environment)
    assert not {b"\x1b[3%d" % colour for colour in range(8)} & {text[i : i + 4] for i in range(len(text))}
    assert b"current" in text
    assert (ESCAPE in text) == ("NO_COLOR" in environment)  # bold is no colour


@pytest.mark.parametrize(
    ("on_terminal", "as_json", "environment"),
    [
        (False, False, {}),
        (True, True, {}),
        (True, False, {"TERM": "dumb"}),
        (False, False, {"FORCE_COLOR": "1"}),
    ],
)
def test_progress_is_shown_on_terminals_only(
    on_terminal: bool, as_json: bool, environment: dict[str, str]
) -> None:
    assert written(SLOW.format(as_json=as_json), on_terminal=on_terminal, **environment) == b""


def test_progress_disappears_at_the_end() -> None:
    text = written(SLOW.format(as_json=False), on_terminal=True)
    assert b"working" in text
    assert text.rstrip().endswith(b"\x1b[2K")  # the line is erased


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (KID, SHORT),
        (
            f"{KID} signs; not before that of {KID}, {KID}.",
            f"{SHORT} signs; not before that of {SHORT}, {SHORT}.",
        ),
        (f"({KID})", f"({SHORT})"),
        (f"install BACKUP/{KID}.pem keys/", f"install BACKUP/{KID}.pem keys/"),
        (f"in {KID}.pending", f"in {KID}.pending"),
        (f"for the kid '{KID}'", f"for the kid '{KID}'"),
        (f"{KID}x and {KID[:42]}", f"{KID}x and {KID[:42]}"),
        ("a" * 64, "a" * 64),
    ],
)
def test_kids_in_prose_are_shortened_and_those_to_copy_are_whole(text: str, shown: str) -> None:
    assert shorten_kids(text) == shown


def test_a_short_kid_stays_as_it_is() -> None:
    assert [short_kid(kid) for kid in (KID, "12345678", "")] == [SHORT, "12345678", ""]


def test_every_meaning_has_a_style() -> None:
    assert set(terminal.MEANINGS.values()) <= terminal.STYLES.keys()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_symbols_have_a_substitute_and_other_characters_are_escaped(encoding: str) -> None:
    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding, "issuer.symbols")
    stream.write("".join(SYMBOLS) + "\N{SNOWMAN}\N{GRINNING FACE}")
    stream.flush()
    assert binary.getvalue().decode("ascii") == "".join(SYMBOLS.values()) + r"\u2603\U0001f600"


def test_a_client_secret_is_whole_although_it_looks_like_a_kid(capsys: pytest.CaptureFixture[str]) -> None:
    show({}, as_json=False, message=f"client_secret  {KID}")
    assert capsys.readouterr().out == f"client_secret  {KID}\n"


def test_the_message_of_a_script_has_whole_kids(capsys: pytest.CaptureFixture[str]) -> None:
    fail(Refused(f"not before: {KID}"), as_json=True)
    assert json.loads(capsys.readouterr().out)["message"] == f"not before: {KID}"
    fail(Refused(f"not before: {KID}"), as_json=False)
    assert capsys.readouterr().err == f"refused: not before: {SHORT}\n"
