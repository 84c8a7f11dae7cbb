"""The settings of the service: the environment first, then `.env`, each value trimmed; an empty one is not set.

What is built from them is defined in `app`.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from dotenv.parser import Binding, parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from verifier_example.verifier import JwksCache, Timings

GROUP_AND_OTHERS_WRITE = 0o022
_DEFAULTS = Timings()
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


_REASONS = {
    "float_parsing": "write a duration as seconds or as 30d, 24h, 10m, 45s",
    "finite_number": "write a duration as seconds or as 30d, 24h, 10m, 45s",
    "greater_than_equal": "must be at least {ge:g}",
    "bool_parsing": "must be true or false",
}
"""By pydantic's kind of error."""


class BadSettings(ValueError):
    """The settings cannot be used; one line that names each, and shows no value."""


def _seconds(value: object) -> object:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
"""A duration; in the environment a number of seconds, or `30d`, `24h`, `10m`, `45s`."""


def _names(value: object) -> object:
    return tuple(filter(None, value.replace(" ", "").split(","))) if isinstance(value, str) else value


def _algorithms(names: tuple[str, ...]) -> tuple[str, ...]:
    known = {name.lower(): name for name in ("RS256", "PS256", "ES256", "EdDSA")}
    if not names or not {name.lower() for name in names} <= known.keys():
        raise ValueError(f"must be one or more of {', '.join(known.values())}")
    return tuple(known[name.lower()] for name in names)


class Settings(BaseSettings):
    """What the operator decides, from the environment (`VERIFIER_ISSUER`, ...) or `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="VERIFIER_", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102 - this, too, is pydantic's
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del env_settings, dotenv_settings, file_secret_settings  # one source reads both, by one set of rules
        return init_settings, _GivenSource(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _is_one_line(cls, value: object) -> object:
        if isinstance(value, str) and any(character in value for character in "\r\n\0"):
            raise ValueError("holds a line break or a zero byte")
        return value

    issuer: str = Field("http://127.0.0.1:8000", description="The issuer whose tokens are accepted.")
    audience: str = Field("http://127.0.0.1:8001", description="What a token must be for.")
    jwks_url: str | None = Field(None, description="Where the keys are; found by discovery when unset.")
    ttl_floor: Seconds = Field(
        _DEFAULTS.ttl_floor, description="Keys are trusted at least this long without being fetched again."
    )
    cooldown: Seconds = Field(
        _DEFAULTS.cooldown, description="The least time between fetches for unknown kids."
    )
    max_stale: Seconds = Field(
        _DEFAULTS.max_stale, description="How long old keys serve while the issuer is down."
    )
    algorithms: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_algorithms)] = (
        Field(
            ("RS256",),
            description="What tokens may be signed with, separated by commas: RS256, PS256, ES256, EdDSA.",
        )
    )
    allow_http: bool = Field(
        False,
        description="Fetch keys over plain http from other hosts too: inside a network trusted as a whole.",
    )
    ca_file: str | None = Field(
        None,
        description="A PEM file with the certificate authorities to trust for fetches, and no others; unset, those of"
        " `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the system's.",
    )
    proxy: SecretStr | None = Field(
        None,
        description="The proxy for fetches, `http://host:port`, with `user:password@` if it asks for them;"
        " `HTTPS_PROXY` and the like are not used.",
    )


def load_settings() -> Settings:
    """Return the settings of this process; raise BadSettings, one line naming each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [str(fault["loc"][0]) for fault in error.errors(include_url=False)]
        rest = Settings(**{name: Settings.model_fields[name].default for name in wrong})
        told = [
            f"VERIFIER_{str(fault['loc'][0]).upper()}: {_reason(fault)}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise BadSettings("; ".join([*told, *_unfit(rest)])) from None


def require_fit(settings: Settings) -> None:
    """Raise BadSettings, one line naming each setting that no keys can be fetched with."""
    if told := list(_unfit(settings)):
        raise BadSettings("; ".join(told))


def _unfit(settings: Settings) -> Iterator[str]:
    """Yield each setting that no keys can be fetched with."""
    cache = partial(JwksCache, "https://issuer.example", allow_http=settings.allow_http)
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    each: dict[str, Callable[[], object]] = {
        "ISSUER": partial(JwksCache, settings.issuer, allow_http=settings.allow_http),
        "JWKS_URL": partial(cache, jwks_url=settings.jwks_url),
        "TTL_FLOOR": partial(Timings, settings.ttl_floor, max(settings.ttl_floor, _DEFAULTS.ttl_ceiling)),
        "CA_FILE": partial(cache, ca_file=settings.ca_file),
        "PROXY": partial(cache, proxy=proxy),
    }
    for name, make in each.items():
        try:
            make()
        except ValueError as error:
            yield f"VERIFIER_{name}: {error}"


def _reason(fault: ErrorDetails) -> str:
    """Return in words of ours why a value was refused."""
    words = _REASONS.get(fault["type"])
    return words.format(**fault.get("ctx", {})) if words else fault["msg"].removeprefix("Value error, ")


class _GivenSource(PydanticBaseSettingsSource):
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
            raise BadSettings(
                f"{file} belongs to another user, or others may write to it; own it, and run: chmod 600 {file}"
            )
        bindings = list(parse_stream(StringIO(file.read_text("utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot read {file}: {error}") from error
    for each in bindings:
        _require_read(each, file)
    return _present({each.key: each.value for each in bindings if each.key and each.value})


def _require_read(binding: Binding, file: Path) -> None:
    """Refuse a line that names a setting of ours and gives it no value: a default would be used instead."""
    source = binding.original.string
    if "VERIFIER_" in source.upper() and (binding.error or (binding.key and binding.value is None)):
        before = source[: len(source) - len(source.lstrip())].count("\n")
        raise BadSettings(f"line {binding.original.line + before} of {file} cannot be read: write NAME=value")


def _present(values: dict[str, str]) -> dict[str, str]:
    """Return values under their names in lower case, without blanks and a pair of quotes; leave empty ones out."""
    trimmed = {name.lower(): _trimmed(value) for name, value in values.items()}
    return {name: value for name, value in trimmed.items() if value}


def _trimmed(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value
