"""The settings of the service, from the environment first, then from `.env`; values are trimmed, empty ones unset.

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

from jwks_verifier import JwksCache, Timings

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
"""By pydantic's error types."""


class BadSettings(ValueError):
    """Invalid settings; the message is one line that names each of them and shows no value."""


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
    """The operator's settings, from the environment (`VERIFIER_ISSUER`, ...) or `.env`."""

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
        del env_settings, dotenv_settings, file_secret_settings  # one source reads both, by the same rules
        return init_settings, _TextSource(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _require_one_line(cls, value: object) -> object:
        if isinstance(value, str) and any(character in value for character in "\r\n\0"):
            raise ValueError("contains a line break or a zero byte")
        return value

    issuer: str = Field("http://127.0.0.1:8000", description="The issuer whose tokens are accepted.")
    audience: str = Field("http://127.0.0.1:8001", description="The audience that a token must have.")
    jwks_url: str | None = Field(None, description="The URL of the key set; found by discovery when unset.")
    ttl_floor: Seconds = Field(
        _DEFAULTS.ttl_floor,
        description="The shortest time for which fetched keys are used before they are fetched again.",
    )
    cooldown: Seconds = Field(
        _DEFAULTS.cooldown, description="The shortest time between two fetches for unknown kids."
    )
    max_stale: Seconds = Field(
        _DEFAULTS.max_stale,
        description="How long expired keys are still used while the issuer is unreachable.",
    )
    algorithms: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_algorithms)] = (
        Field(
            ("RS256",),
            description="The accepted signature algorithms, separated by commas: RS256, PS256, ES256, EdDSA.",
        )
    )
    allow_http: bool = Field(
        False,
        description="Fetch keys over plain http from other hosts, too; only in a trusted network.",
    )
    ca_file: str | None = Field(
        None,
        description="A PEM file with the only certificate authorities to trust for fetches; unset, those of"
        " `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the system's.",
    )
    proxy: SecretStr | None = Field(
        None,
        description="The proxy for fetches, `http://host:port`, with `user:password@` if required;"
        " `HTTPS_PROXY` and similar variables are not used.",
    )
    name: str | None = Field(
        None,
        description="The name of this service in `User-Agent`, by which `issuer keys verifiers` lists it: letters,"
        " digits, dots, dashes and underscores.",
    )
    listen: bool = Field(
        True,
        description="Keep a request open which the issuer answers when its keys change, so that a revoked key is"
        " refused within a second; where an issuer or a proxy does not wait, keys are refreshed by their age only.",
    )
    docs_client_id: str | None = Field(
        None,
        description="The public client with which `/docs` signs users in by browser; its redirect URI is that of this"
        " service with the path `/docs/oauth2-redirect`. Unset, `/docs` asks for username and password only.",
    )


def load_settings() -> Settings:
    """Return the settings of this process; raise BadSettings with one line that names each invalid one."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [str(each["loc"][0]) for each in error.errors(include_url=False)]
        rest = Settings(**{name: Settings.model_fields[name].default for name in wrong})
        errors = [
            f"VERIFIER_{str(each['loc'][0]).upper()}: {_reason(each)}"
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise BadSettings("; ".join([*errors, *_unusable(rest)])) from None


def require_usable(settings: Settings) -> None:
    """Raise BadSettings with one line that names each setting with which keys cannot be fetched."""
    if errors := list(_unusable(settings)):
        raise BadSettings("; ".join(errors))


def _unusable(settings: Settings) -> Iterator[str]:
    """Yield an error for each setting with which keys cannot be fetched."""
    cache = partial(JwksCache, "https://issuer.example", allow_http=settings.allow_http)
    try:
        cache()
    except ValueError as error:  # of no setting, but of SSL_CERT_FILE, which all of them need
        yield f"{error}"
        return
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    each: dict[str, Callable[[], object]] = {
        "ISSUER": partial(JwksCache, settings.issuer, allow_http=settings.allow_http),
        "JWKS_URL": partial(cache, jwks_url=settings.jwks_url),
        "TTL_FLOOR": partial(Timings, settings.ttl_floor, max(settings.ttl_floor, _DEFAULTS.ttl_ceiling)),
        "CA_FILE": partial(cache, ca_file=settings.ca_file),
        "PROXY": partial(cache, proxy=proxy),
        "NAME": partial(cache, name=settings.name),
    }
    for name, make in each.items():
        try:
            make()
        except ValueError as error:
            yield f"VERIFIER_{name}: {error}"


def _reason(error: ErrorDetails) -> str:
    """Return why a value was rejected."""
    words = _REASONS.get(error["type"])
    return words.format(**error.get("ctx", {})) if words else error["msg"].removeprefix("Value error, ")


class _TextSource(PydanticBaseSettingsSource):
    """Reads the environment and `.env` without expanding variables, so that a password may contain a `$`."""

    def __init__(self, settings_cls: type[BaseSettings], file: Path = Path(".env")) -> None:
        super().__init__(settings_cls)
        self._file = file

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return nothing: `__call__` returns all values."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the text of each setting that is set; raise BadSettings."""
        prefix = str(self.config.get("env_prefix", "")).lower()
        names = {f"{prefix}{name}": name for name in self.settings_cls.model_fields}
        given = {**_read(self._file), **_present(dict(os.environ))}
        return {names[name]: value for name, value in given.items() if name in names}


def _read(file: Path) -> dict[str, str]:
    """Return the values in `.env`; reject a file that others could have written, as it names the issuer to trust."""
    if not os.path.lexists(file):
        return {}
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise BadSettings(f"{file} is not a regular file")
        if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & GROUP_AND_OTHERS_WRITE:
            raise BadSettings(
                f"{file} belongs to another user, or others may write to it; make it yours, and run: chmod 600 {file}"
            )
        bindings = list(parse_stream(StringIO(file.read_text("utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot read {file}: {error}") from error
    for each in bindings:
        _require_read(each, file)
    return _present({each.key: each.value for each in bindings if each.key and each.value})


def _require_read(binding: Binding, file: Path) -> None:
    """Reject a line that names a setting without a value: the default would be used silently."""
    source = binding.original.string
    if "VERIFIER_" in source.upper() and (binding.error or (binding.key and binding.value is None)):
        before = source[: len(source) - len(source.lstrip())].count("\n")
        raise BadSettings(f"line {binding.original.line + before} of {file} cannot be read: write NAME=value")


def _present(values: dict[str, str]) -> dict[str, str]:
    """Return the values by lower-case name, without surrounding blanks and quotes; empty ones are left out."""
    trimmed = {name.lower(): _trimmed(value) for name, value in values.items()}
    return {name: value for name, value in trimmed.items() if value}


def _trimmed(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value
