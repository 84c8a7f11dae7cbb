"""The file `.env`: the checks of its owner and permissions, and its parser. No other module reads it.

Which names are settings, and which value is used, is decided in `sources` and `settings`.
"""

import io
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from issuer.fixes import Fix, Kind, as_root, excess_permissions, quoted

BYTE_ORDER_MARK = "\ufeff"
GROUP_AND_OTHERS_WRITE = 0o022
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_MEANT = re.compile(r"(?<![A-Za-z0-9_.@/-])(?:ISSUER|VERIFIER)[_.-][A-Za-z0-9_.-]+", re.IGNORECASE)
"""Text that probably is the name of a setting, misspelt, and not a part of another program's name."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class BadEnvFile(Exception):
    """`.env` exists, and cannot or must not be read; the message has the reason."""

    def __init__(self, message: str, fix: Fix) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Assignment:
    """`NAME=value`, with its first and last line; variables in the value are not expanded."""

    name: str
    value: str = field(repr=False)
    first_line: int
    last_line: int


@dataclass(frozen=True)
class Unread:
    """A line that cannot be read, and the command that corrects it or comments it out."""

    line: int
    names_setting: bool
    fix: Fix


@dataclass(frozen=True)
class EnvFile:
    """The content of `.env`."""

    path: Path
    mode: int
    is_exposed: bool
    """Whether others can read it."""
    has_byte_order_mark: bool
    assignments: tuple[Assignment, ...]
    unread: tuple[Unread, ...]


def read_env_file(path: Path = Path(".env")) -> EnvFile | None:
    """Return the content of the file, or None if there is no file; raise BadEnvFile."""
    if not os.path.lexists(path):
        return None
    facts = _require_trusted(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadEnvFile(
            f"cannot read {path}: {error.strerror}", Fix(Kind.ENV_UNREADABLE, f"chmod u+r {quoted(path)}")
        ) from error
    text = _decoded(path, content)
    has_mark = text.startswith(BYTE_ORDER_MARK)
    assignments, unread = _parsed(path, text.removeprefix(BYTE_ORDER_MARK))
    return EnvFile(
        path, stat.S_IMODE(facts.st_mode), bool(excess_permissions(facts)), has_mark, assignments, unread
    )


def _require_trusted(path: Path) -> os.stat_result:
    """Return the status of the file; raise BadEnvFile if others could have written it, as it decides what runs."""
    aside = Fix(Kind.ENV_NOT_A_FILE, f"mv {quoted(path)} {quoted(f'{path}.aside')}")
    try:
        owners = {path.lstat().st_uid, (facts := path.stat()).st_uid}
    except FileNotFoundError:
        raise BadEnvFile(f"{path} is a symbolic link to a file that does not exist", aside) from None
    except OSError as error:
        raise BadEnvFile(f"cannot read {path}: {error.strerror}", aside) from error
    if not stat.S_ISREG(facts.st_mode):
        what = "a directory" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        raise BadEnvFile(f"{path} is {what}, but settings are read from a file of that name", aside)
    if strangers := owners - {0, os.geteuid()}:
        raise BadEnvFile(
            f"{path} belongs to user {strangers.pop()}, and this process runs as user {os.geteuid()}: run it as the"
            " owner of the file; or, if you trust its content, change the owner",
            Fix(Kind.ENV_OWNER, as_root(f"chown -h {os.geteuid()} {quoted(path)}")),
        )
    if facts.st_mode & GROUP_AND_OTHERS_WRITE:
        raise BadEnvFile(
            f"others can write to {path} (mode {stat.S_IMODE(facts.st_mode):04o}), and so change any setting",
            Fix(Kind.ENV_WRITABLE, f"chmod go-w {quoted(path)}"),
        )
    return facts


def _decoded(path: Path, content: bytes) -> str:
    encoding = "UTF-16" if content.startswith(_UTF16_MARKS) else "WINDOWS-1252"
    name, new = quoted(path), quoted(f"{path}.new")
    fix = Fix(
        Kind.ENV_ENCODING,
        f"(umask 077 && iconv -f {encoding} -t UTF-8 {name} > {new}) && mv {new} {name}",
    )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadEnvFile(f"{path} is not UTF-8: line {line}", fix) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        wrong = f"{path} is not text: line {line} has a zero byte"
        raise BadEnvFile(wrong, Fix(Kind.ENV_LINE, commented(path, line, line)))
    return text


def _parsed(path: Path, text: str) -> tuple[tuple[Assignment, ...], tuple[Unread, ...]]:
    assignments, unread = [], []
    for binding in parse_stream(io.StringIO(text, newline="")):
        source = binding.original
        # An error, or a value of several lines, may start with empty lines that are not part of it.
        written = source.string.lstrip()
        first = source.line + source.string[: len(source.string) - len(written)].count("\n")
        if binding.error or _is_unassigned(binding):
            unread.append(_unread(path, first, written))
        elif binding.key is not None:
            last = first + written.rstrip("\r\n").count("\n")
            assignments.append(Assignment(binding.key, binding.value or "", first, last))
    return tuple(assignments), tuple(unread)


def _is_unassigned(binding: Binding) -> bool:
    """Whether a line has no value, or a name that is only similar to that of a setting.

    A byte order mark within joined files, a zero-width space and quotes are easily overlooked.
    """
    name = binding.key
    if name is None or binding.value is None:
        return name is not None
    has_prefix = name.upper().startswith(("ISSUER_", "VERIFIER_"))  # misspelt ones are found by `sources`
    return not has_prefix and not _NAME.fullmatch(name) and bool(_MEANT.search(name))


def _unread(path: Path, line: int, written: str) -> Unread:
    first = written.splitlines()[0]
    names_setting = any(each in written.upper() for each in ("ISSUER_", "VERIFIER_")) or bool(
        "=" in first and _MEANT.search(first.partition("=")[0])
    )
    last = line + written.rstrip("\r\n").count("\n")
    fix = _corrected(path, first, line) or Fix(Kind.ENV_LINE, commented(path, line, last))
    return Unread(line, names_setting, fix)


def _corrected(path: Path, text: str, line: int) -> Fix | None:
    """Return the command that corrects a line with one of the common mistakes, or None."""
    name, colon, value = text.partition(":")
    quote = text.partition("=")[2].strip()[:1]
    before, equals, after = text.partition("=")
    meant = _MEANT.search(before)
    written = re.sub("[.-]", "_", meant[0]).upper() if meant and not _NAME.fullmatch(before) else ""
    candidates = [
        (f"{line}s/^[^=]*=/{written}=/", f"{written}={after}" if written and equals else ""),
        (f"{line}s/: */=/", f"{name}={value.lstrip(' ')}" if colon and not value.startswith("//") else ""),
        (f"{line}s/\\r\\?$/{quote}/", f"{text}{quote}"),
    ]
    for edit, result in candidates:
        bindings = list(parse_stream(io.StringIO(result)))
        if len(bindings) == 1 and not bindings[0].error and bindings[0].value is not None:
            quote = '"' if "'" in edit else "'"
            return Fix(Kind.ENV_LINE, f"sed -i {quote}{edit}{quote} {quoted(path)}")
    return None


def commented(path: Path, first: int, last: int) -> str:
    """Return the command that turns lines into comments."""
    lines = f"{first},{last}" if last > first else f"{first}"
    return f"sed -i '{lines}s/^/# /' {quoted(path)}"
