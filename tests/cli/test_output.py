"""What commands print on a real terminal of 80 columns: whole kids, whole instants, lines that can be copied."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

pytestmark = pytest.mark.processes


COLUMNS = 80


def printed_on_a_terminal(code: str) -> list[str]:
    """Run `code` with a terminal as its standard output, and return the lines that arrive there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(120) == 0
    return text.decode().replace("\r\n", "\n").splitlines()


def test_a_line_to_copy_is_never_wrapped() -> None:
    line = "export SECRET='" + "x y" * 60 + "'"
    code = f"from issuer.cli.output import show; show({{}}, as_json=False, message={line!r})"
    assert printed_on_a_terminal(code) == [line]


def test_a_key_ring_fits_with_its_kids_and_instants_whole() -> None:
    row = {
        "phase": "previous",
        "kid": "k" * 43,
        "alg": "EdDSA",
        "age": "3650d",
        "signs_from": "2026-01-01T00:00:00Z",
        "leaves_jwks_at": "2026-02-01T00:00:03Z",
        "tokens_alive_until": "2026-02-01T00:00:02Z",
    }
    code = (
        "from issuer.cli.ring_view import brief; from issuer.cli.output import show;"
        f"show({{}}, as_json=False, rows=[brief({row!r})])"
    )
    (_, *shown) = printed_on_a_terminal(code)
    (line,) = shown
    assert line.split() == [
        "previous",
        "kkkkkkkk…",
        "EdDSA",
        "3650d",
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:03Z",
    ]
    assert len(line) <= COLUMNS


AUDIT = {
    "at": "2026-01-01T00:00:00Z",
    "action": "published",
    "kid": "k" * 12,
    "ring": 1,
    "actor": "root on vm",
}
CLIENT = {
    "client_id": "0" * 36,
    "name": "nightly report",
    "audiences": "https://billing.example/accounts/in/eu-central https://a.example",
}


def shown(*rows: dict[str, object]) -> list[str]:
    code = f"from issuer.cli.output import show; show({{}}, as_json=False, rows={list(rows)!r})"
    return printed_on_a_terminal(code)


def test_a_long_reason_is_wrapped_at_its_words_and_the_instants_stay_whole() -> None:
    reason = "compromised: found in a backup on the internet"
    _, first, *rest = shown({**AUDIT, "reason": reason})
    assert first.split()[:3] == ["2026-01-01T00:00:00Z", "published", "k" * 12]
    assert " ".join([*first.split()[7:], *" ".join(rest).split()]) == reason
    assert all(len(line) <= COLUMNS for line in (first, *rest))


def test_rows_that_are_too_wide_for_a_table_are_lists_of_their_members_with_whole_ids() -> None:
    assert shown(CLIENT, {**CLIENT, "name": ""}) == [
        f"client id  {'0' * 36}",
        "name       nightly report",
        "audiences  https://billing.example/accounts/in/eu-central https://a.example",
        "",
        f"client id  {'0' * 36}",
        "audiences  https://billing.example/accounts/in/eu-central https://a.example",
    ]


def test_a_paragraph_of_help_fills_the_lines_of_the_terminal() -> None:
    arguments = ["issuer", "keys", "rewrap", "--help"]
    code = f"import sys; sys.argv = {arguments!r}; from issuer.cli import main; main()"
    lines = [line.strip() for line in printed_on_a_terminal(code)]
    first = next(number for number, line in enumerate(lines) if line.startswith("Afterwards"))
    paragraph = lines[first : lines.index("", first)]
    words = [*paragraph[1:], ""]
    for line, following in zip(paragraph, words, strict=True):
        assert not following or len(line) + 1 + len(following.split()[0]) > COLUMNS - 4
