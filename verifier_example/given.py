"""Where settings come from: the environment first, then `.env`, each value trimmed; an empty one is not set.

What a setting means is decided in `app`.
"""

import os
import stat
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

GROUP_AND_OTHERS_WRITE = 0o022


class BadSettings(ValueError):
    """The settings cannot be used; one line that names each, and shows no value."""


class GivenSource(PydanticBaseSettingsSource):
    """The environment and `.env`: nothing is expanded in it, so that a `$` in a password survives."""

    def __init__(self, settings_cls: type[BaseSettings], file: Path = Path(".env")) -> None:
        super().__init__(settings_cls)
        self._file = file

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return nothing: all values come at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the text of each setting that is given; raise BadSettings."""
        prefix = str(self.config.get("env_prefix", "")).lower()
        names = {f"{prefix}{name}": name for name in self.settings_cls.model_fields}
        given = {**_read(self._file), **_present(dict(os.environ))}
        return {names[name]: value for name, value in given.items() if name in names}


def _read(file: Path) -> dict[str, str]:
    """Return what `.env` says; refuse one that another user could have written: it names the issuer to trust."""
    if not os.path.lexists(file):
        return {}
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise BadSettings(f"{file} is no regular file")
        if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & GROUP_AND_OTHERS_WRITE:
            raise BadSettings(f"{file} belongs to another user, or others may write to it")
        values = dotenv_values(stream=StringIO(file.read_text("utf-8-sig")), interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot read {file}: {error}") from error
    return _present({name: value or "" for name, value in values.items()})


def _present(values: dict[str, str]) -> dict[str, str]:
    """Return values under their names in lower case, without blanks and a pair of quotes; leave empty ones out."""
    trimmed = {name.lower(): _trimmed(value) for name, value in values.items()}
    return {name: value for name, value in trimmed.items() if value}


def _trimmed(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value
