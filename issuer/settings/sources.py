"""The sources of settings: the environment first, then `.env`, as unvalidated text; an empty setting is not set.

What a setting means is decided in `settings`, how `.env` is read in `env_file`.
"""

import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from issuer.fixes import ConfigWarning, Fix, Kind, quoted, remove_byte_order_mark
from issuer.settings.env_file import EnvFile, commented, read_env_file

PREFIX = "ISSUER_"
VERBATIM = frozenset({"ISSUER_KEYS_PASSPHRASE"})
"""Settings in whose values spaces and quotes at the ends may be intended."""


class DuplicateSetting(ValueError):
    """The environment has a setting in two spellings, with different values."""

    def __init__(self, name: str, spelled: str, other: str) -> None:
        super().__init__(f"{name}: the environment has {other} and {spelled}, with different values")
        self.fix = Fix(Kind.TWICE_IN_ENVIRONMENT, f"unset {spelled}")


@dataclass(frozen=True)
class RawSetting:
    """One setting as its source has it."""

    name: str
    spelled: str
    value: str = field(repr=False)
    line: int | None = None
    """Its line in `.env`; None in the environment."""

    @property
    def where(self) -> str:
        """Where it is set, for a message."""
        return "the environment" if self.line is None else f".env, line {self.line}"


def raw_settings() -> dict[str, RawSetting]:
    """Return each `ISSUER_` name that has a value; raise BadEnvFile or DuplicateSetting."""
    file = read_env_file()
    found = {each.name: each for each in _in_file(file)} if file else {}
    in_environment: dict[str, RawSetting] = {}
    for spelled, value in sorted(os.environ.items()):
        name = spelled.upper()
        if not name.startswith(PREFIX) or is_empty(value):
            continue
        other = in_environment.get(name)
        if other and other.value != value:
            raise DuplicateSetting(name, spelled, other.spelled)  # sorted: capitals come first
        in_environment[name] = RawSetting(name, spelled, value)
    return found | in_environment


def is_empty(value: str) -> bool:
    """Whether a value is empty, so that the setting is not set."""
    return not value.strip().strip("\"'").strip()


def normalized(raw: RawSetting) -> str:
    """Return the value without spaces, line ends and a pair of quotes around it.

    `docker --env-file` passes quotes on, and secrets often end with a line break.
    """
    if raw.name in VERBATIM:
        return raw.value.strip("\r\n")
    value = raw.value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value


class RawSource(PydanticBaseSettingsSource):
    """The environment and `.env`, for pydantic."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return nothing: all values come at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values by the names of their fields."""
        raw = raw_settings()
        names = {field: f"{PREFIX}{field.upper()}" for field in self.settings_cls.model_fields}
        return {field: normalized(raw[name]) for field, name in names.items() if name in raw}


def source() -> str:
    """Return where settings are read from, for messages."""
    file = read_env_file()
    return f"{file.path.absolute()} and the environment" if file else "the environment"


def file_warnings(known: frozenset[str]) -> list[ConfigWarning]:
    """Return the lines and names in `.env` that have no effect; `known` are the names of all settings."""
    file = read_env_file()
    if file is None:
        return []
    found = [
        ConfigWarning(f"line {each.line} of {file.path} cannot be read, and is ignored", each.fix)
        for each in file.unread
        # A line that names a setting is an error, not a warning.
        if not each.names_setting
    ]
    if file.has_byte_order_mark:
        found.append(
            ConfigWarning(
                f"{file.path} begins with a UTF-8 byte order mark, which is ignored",
                Fix(Kind.ENV_BYTE_ORDER_MARK, remove_byte_order_mark(file.path)),
            )
        )
    return [*found, *_overridden(file), *_unknown_in_file(file, known)]


def unknown_in_environment(known: frozenset[str]) -> list[ConfigWarning]:
    """Return each `ISSUER_` name of the environment that is not a setting."""
    return [
        ConfigWarning(_unknown(name, known), Fix(Kind.UNKNOWN_IN_ENVIRONMENT, f"unset {name}"))
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]


def _in_file(file: EnvFile) -> list[RawSetting]:
    return [
        RawSetting(each.name.upper(), each.name, each.value, each.first_line)
        for each in file.assignments
        if each.name.upper().startswith(PREFIX) and not is_empty(each.value)
    ]


def _overridden(file: EnvFile) -> list[ConfigWarning]:
    last: dict[str, int] = {}
    found = []
    for each in reversed(file.assignments):
        name = each.name.upper()
        if not name.startswith(PREFIX) or is_empty(each.value):
            continue
        if name in last:
            found.append(
                ConfigWarning(
                    f"line {each.first_line} of {file.path} sets {name}, and line {last[name]} sets it again: the"
                    " later one is used",
                    Fix(Kind.OVERRIDDEN_LINE, commented(file.path, each.first_line, each.last_line)),
                )
            )
        last.setdefault(name, each.first_line)
    return found


def _unknown_in_file(file: EnvFile, known: frozenset[str]) -> list[ConfigWarning]:
    present = {each.name.upper() for each in file.assignments} | {name.upper() for name in os.environ}
    found = []
    for each in file.assignments:
        name = each.name.upper()
        if not name.startswith(PREFIX) or name in known:
            continue
        similar = _most_similar(name, known)
        if similar and similar not in present:
            edit = f"{each.first_line}s/^[^=]*=/{similar}=/"  # matches any characters in the name
            fix = Fix(Kind.MISSPELT_IN_FILE, f"sed -i '{edit}' {quoted(file.path)}")
        else:
            fix = Fix(Kind.UNKNOWN_IN_FILE, commented(file.path, each.first_line, each.last_line))
        found.append(
            ConfigWarning(f"{_unknown(each.name, known)} (line {each.first_line} of {file.path})", fix)
        )
    return found


def _unknown(name: str, known: frozenset[str]) -> str:
    similar = _most_similar(name.upper(), known)
    return f"{name} is no setting" + (f"; did you mean {similar}?" if similar else "")


def _most_similar(name: str, known: frozenset[str]) -> str | None:
    bare = {each.removeprefix(PREFIX): each for each in sorted(known)}
    return next((bare[close] for close in get_close_matches(name.removeprefix(PREFIX), bare, 1)), None)
