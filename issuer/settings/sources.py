"""Which settings were given, where, and as what text: the environment first, then `.env`; an empty one is not set.

What a setting means is decided in `settings`, what `.env` says in `env_file`.
"""

import os
from dataclasses import dataclass, field
from difflib import get_close_matches

from issuer.fixes import Concern, Fix, Kind, quoted, remove_byte_order_mark
from issuer.settings.env_file import EnvFile, commented, read_env_file

PREFIX = "ISSUER_"
VERBATIM = frozenset({"ISSUER_KEYS_PASSPHRASE"})
"""Blanks and quotes at their ends may be meant."""


class GivenTwice(ValueError):
    """The environment has a setting under two spellings, with different values."""

    def __init__(self, name: str, spelled: str, other: str) -> None:
        super().__init__(f"{name}: the environment has {other} and {spelled}, with different values")
        self.fix = Fix(Kind.TWICE_IN_ENVIRONMENT, f"unset {spelled}")


@dataclass(frozen=True)
class Given:
    """One setting as it was given."""

    name: str
    spelled: str
    value: str = field(repr=False)
    line: int | None = None
    """Its line in `.env`; None in the environment."""

    @property
    def where(self) -> str:
        """Where it was given, for a message."""
        return "the environment" if self.line is None else f".env, line {self.line}"


def given_settings() -> dict[str, Given]:
    """Return each `ISSUER_` name that has a value; raise BadEnvFile or GivenTwice."""
    file = read_env_file()
    found = {each.name: each for each in _in_file(file)} if file else {}
    in_environment: dict[str, Given] = {}
    for spelled, value in sorted(os.environ.items()):
        name = spelled.upper()
        if not name.startswith(PREFIX) or is_empty(value):
            continue
        other = in_environment.get(name)
        if other and other.value != value:
            raise GivenTwice(name, spelled, other.spelled)  # sorted: capitals come first
        in_environment[name] = Given(name, spelled, value)
    return found | in_environment


def is_empty(value: str) -> bool:
    """Whether a value says nothing, so that the setting is not set."""
    return not value.strip().strip("\"'").strip()


def cleaned(given: Given) -> str:
    """Return the value as it counts: without blanks, line ends and a pair of quotes around it.

    `docker --env-file` hands quotes on, and secrets often come with the end of a line.
    """
    if given.name in VERBATIM:
        return given.value.strip("\r\n")
    value = given.value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value


def source() -> str:
    """Return where settings are read from, for people."""
    file = read_env_file()
    return f"{file.path.absolute()} and the environment" if file else "the environment"


def file_concerns(known: frozenset[str]) -> list[Concern]:
    """Return the concerns about `.env`: lines and names without effect; `known` are the names of all settings."""
    file = read_env_file()
    if file is None:
        return []
    told = [
        Concern(f"line {each.line} of {file.path} cannot be read, and is ignored", each.fix)
        for each in file.unread
        if not each.names_setting  # those are refused
    ]
    if file.has_byte_order_mark:
        told.append(
            Concern(
                f"{file.path} begins with a UTF-8 byte order mark, which is ignored",
                Fix(Kind.ENV_BYTE_ORDER_MARK, remove_byte_order_mark(file.path)),
            )
        )
    return [*told, *_overridden(file), *_misspelt_in_file(file, known)]


def misspelt_in_environment(known: frozenset[str]) -> list[Concern]:
    """Return each `ISSUER_` name of the environment that is no setting."""
    return [
        Concern(_no_setting(name, known), Fix(Kind.UNKNOWN_IN_ENVIRONMENT, f"unset {name}"))
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]


def _in_file(file: EnvFile) -> list[Given]:
    return [
        Given(each.name.upper(), each.name, each.value, each.first_line)
        for each in file.assignments
        if each.name.upper().startswith(PREFIX) and not is_empty(each.value)
    ]


def _overridden(file: EnvFile) -> list[Concern]:
    last: dict[str, int] = {}
    told = []
    for each in reversed(file.assignments):
        name = each.name.upper()
        if not name.startswith(PREFIX) or is_empty(each.value):
            continue
        if name in last:
            told.append(
                Concern(
                    f"line {each.first_line} of {file.path} sets {name}, and line {last[name]} sets it again: the"
                    " later one counts",
                    Fix(Kind.OVERRIDDEN_LINE, commented(file.path, each.first_line, each.last_line)),
                )
            )
        last.setdefault(name, each.first_line)
    return told


def _misspelt_in_file(file: EnvFile, known: frozenset[str]) -> list[Concern]:
    here = {each.name.upper() for each in file.assignments} | {name.upper() for name in os.environ}
    told = []
    for each in file.assignments:
        name = each.name.upper()
        if not name.startswith(PREFIX) or name in known:
            continue
        resembles = _resembled(name, known)
        if resembles and resembles not in here:
            edit = f"{each.first_line}s/^[^=]*=/{resembles}=/"  # whatever the name holds
            fix = Fix(Kind.MISSPELT_IN_FILE, f"sed -i '{edit}' {quoted(file.path)}")
        else:
            fix = Fix(Kind.UNKNOWN_IN_FILE, commented(file.path, each.first_line, each.last_line))
        told.append(Concern(f"{_no_setting(each.name, known)} (line {each.first_line} of {file.path})", fix))
    return told


def _no_setting(name: str, known: frozenset[str]) -> str:
    resembles = _resembled(name.upper(), known)
    return f"{name} is no setting" + (f"; did you mean {resembles}?" if resembles else "")


def _resembled(name: str, known: frozenset[str]) -> str | None:
    bare = {each.removeprefix(PREFIX): each for each in sorted(known)}
    return next((bare[close] for close in get_close_matches(name.removeprefix(PREFIX), bare, 1)), None)
