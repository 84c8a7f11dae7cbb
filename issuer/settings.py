"""What an operator may set: names, defaults, and what is refused before anything starts.

What is made of it is told in `wiring`.
"""

import os
import re
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from issuer.oauth import is_loopback
from issuer.policy import BadPolicy, Policy
from issuer.signing.algorithms import ALGORITHMS

LONGEST = timedelta(days=3650)
PASSPHRASE_MOST_BYTES = 1023  # what OpenSSL takes
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,12})([smhd]?)")


class BadSettings(Exception):
    """The settings cannot be used; the message names each one and what is wrong with it.

    `faults` are the same one by one; `mend` is a setting that mends it, where one does.
    """

    def __init__(self, *faults: str, mend: str | None = None) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults
        self.mend = mend


def parse_duration(value: object) -> timedelta:
    """Return the span that `value` says; raise ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a duration as whole seconds or as 30d, 24h, 10m, 45s")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"the longest duration is {LONGEST.days}d")
    return timedelta(seconds=seconds)


def _is_passphrase(text: str) -> bool:
    try:
        return len(text.encode()) <= PASSPHRASE_MOST_BYTES
    except UnicodeEncodeError:
        return False


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def _at_least_a_second(span: timedelta) -> timedelta:
    if not span:
        raise ValueError("must be at least 1s")
    return span


Lifetime = Annotated[Duration, AfterValidator(_at_least_a_second)]


class Settings(BaseSettings):
    """What an operator may set, from the environment or a file `.env`; each field is `ISSUER_` and its name."""

    model_config = SettingsConfigDict(
        env_prefix="ISSUER_", env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    url: str = Field(
        "http://127.0.0.1:8000", description="The issuer's URL: `iss`, and where clients find it."
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///issuer.db"),
        description="SQLite, or `postgresql://…` for several nodes; it may name several hosts: `a:5432,b:5432`.",
    )
    keys: str = Field(
        "keys",
        min_length=1,
        description="Where private keys live: a directory, `database`, or `pkcs11` (an HSM).",
    )
    keys_passphrase: SecretStr | None = Field(
        None, description="Encrypts private keys at rest; with `pkcs11` the PIN of the token."
    )
    keys_passphrase_file: Path | None = Field(None, description="A file that holds the passphrase or PIN.")
    pkcs11_module: str | None = Field(None, description="With `pkcs11`: the shared library of the token.")
    pkcs11_token: str | None = Field(None, description="With `pkcs11`: the label of the token.")
    algorithm: str = Field("RS256", description="For new keys: `RS256`, `PS256`, `ES256` or `EdDSA`.")
    audience: str = Field("http://127.0.0.1:8001", description="The resource that tokens are for by default.")
    access_token_lifetime: Lifetime = Field(
        timedelta(minutes=10), description="How long an access token lives."
    )
    refresh_token_lifetime: Lifetime = Field(
        timedelta(days=30), description="How long an unused refresh token lives."
    )
    rotation_period: Duration = Field(
        timedelta(days=30), description="How long a key signs; `0`: only by hand."
    )
    publish_lead: Duration = Field(
        timedelta(hours=24), description="How long a key is published before it signs."
    )
    jwks_max_age: Duration = Field(
        timedelta(minutes=5), description="For how long verifiers may cache the JWKS."
    )
    standby_keys: int = Field(1, ge=1, le=10, description="How many published keys wait for their turn.")
    outage_limit: Duration = Field(
        timedelta(hours=1), description="How long a node without its database goes on publishing."
    )
    node_timeout: Duration = Field(
        timedelta(seconds=30), description="After this a node that has not seen the key ring stops signing."
    )
    clock_skew: Duration = Field(timedelta(seconds=30), description="How far clocks may differ.")
    registration: Literal["open", "closed"] = Field(
        "open", description="Whether anybody may make an account."
    )
    password_login: Literal["on", "off"] = Field("on", description="Whether users may log in by password.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of browser apps that may log in here, separated by commas."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )
    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="The bearer token for `/metrics`; none is needed on a loopback URL."
    )

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[^/?#@\s*]+", origin):
                raise ValueError("each must be http(s)://HOST[:PORT], without a path or a slash at the end")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(proxy)) for proxy in proxies)
        except ValueError:
            raise ValueError("each must be an address, or a network such as 10.0.0.0/8") from None

    @field_validator("url")
    @classmethod
    def _is_issuer_url(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = url.startswith(("http://", "https://")) and not set("?#@") & set(url) and url.isprintable()
        if not plain or not parts.hostname or parts.port == 0:  # asking for the port checks it, too
            raise ValueError("must be http(s)://HOST[:PORT][/PATH] and nothing more (RFC 8414 section 2)")
        if url.endswith("/"):
            raise ValueError("must not end with a slash: verifiers compare it to the letter")
        return url

    @field_validator("audience")
    @classmethod
    def _is_resource(cls, audience: str) -> str:
        if not audience or not audience.isprintable() or " " in audience:
            raise ValueError("must be the URL or the name of a resource")
        return audience

    @field_validator("keys")
    @classmethod
    def _is_known_place(cls, keys: str) -> str:
        if not keys:
            raise ValueError("must name a directory, or be `database` or `pkcs11`")
        if keys.lower() in {"database", "pkcs11"}:
            return keys.lower()
        return str(Path(keys).expanduser())

    @field_validator("algorithm")
    @classmethod
    def _is_known(cls, algorithm: str) -> str:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
        return algorithm

    @property
    def is_loopback(self) -> bool:
        """Tell whether the issuer can be reached from this machine only."""
        return is_loopback(self.url)

    def passphrase(self) -> str | None:
        """Return the passphrase for private keys; raise BadSettings if a reachable issuer has none."""
        if self.keys_passphrase is not None and self.keys_passphrase_file is not None:
            raise BadSettings("set ISSUER_KEYS_PASSPHRASE or ISSUER_KEYS_PASSPHRASE_FILE, not both")
        passphrase = self.keys_passphrase.get_secret_value() if self.keys_passphrase is not None else None
        if self.keys_passphrase_file is not None:
            try:
                passphrase = self.keys_passphrase_file.read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadSettings(f"cannot read ISSUER_KEYS_PASSPHRASE_FILE: {error}") from error
        if passphrase == "":
            raise BadSettings(
                "the passphrase is empty: set ISSUER_KEYS_PASSPHRASE[_FILE] to one, or not at all"
            )
        if passphrase is None and not self.is_loopback:
            raise BadSettings(
                f"ISSUER_URL is {self.url}, which others can reach, so private keys must be encrypted: set"
                " ISSUER_KEYS_PASSPHRASE_FILE or ISSUER_KEYS_PASSPHRASE"
            )
        if passphrase is not None and not _is_passphrase(passphrase):
            raise BadSettings(
                f"the passphrase must be valid Unicode of at most {PASSPHRASE_MOST_BYTES} bytes"
            )
        return passphrase

    def hardware_token(self) -> tuple[Path, str] | None:
        """Return module and label of the PKCS#11 token with the private keys, or None; raise BadSettings."""
        if self.keys != "pkcs11":
            return None
        pin = self.keys_passphrase or self.keys_passphrase_file
        if self.pkcs11_module and self.pkcs11_token and pin:
            return Path(self.pkcs11_module).expanduser(), self.pkcs11_token
        needed = {
            "ISSUER_PKCS11_MODULE": self.pkcs11_module,
            "ISSUER_PKCS11_TOKEN": self.pkcs11_token,
            "ISSUER_KEYS_PASSPHRASE_FILE or ISSUER_KEYS_PASSPHRASE, the PIN": pin,
        }
        missing = "; ".join(name for name, value in needed.items() if not value)
        raise BadSettings(f"ISSUER_KEYS is pkcs11, which needs more settings: {missing}")

    def policy(self) -> Policy:
        """Return the timing rules; raise BadSettings, with the arithmetic, if they cannot hold."""
        try:
            return Policy(
                algorithm=self.algorithm,
                token_lifetime=self.access_token_lifetime,
                rotation_period=self.rotation_period,
                publish_lead=self.publish_lead,
                max_age=self.jwks_max_age,
                node_timeout=self.node_timeout,
                outage_limit=self.outage_limit,
                clock_skew=self.clock_skew,
                standby_keys=self.standby_keys,
            )
        except BadPolicy as error:
            raise BadSettings(str(error), mend=error.mend) from error


def load_settings() -> Settings:
    """Return the settings of this process; raise BadSettings naming each that is wrong, without its value."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"ISSUER_{str(problem['loc'][0]).upper()}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise BadSettings(*lines) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot read the file .env: {error}") from error


def given_settings() -> dict[str, str]:
    """Return each `ISSUER_` name that is set in the environment or in `.env`, with its value as it stands."""
    given = {**dotenv_values(".env", interpolate=False), **os.environ}
    return {name: value or "" for name, value in given.items() if name.startswith("ISSUER_")}


def unknown_settings() -> dict[str, str]:
    """Return each `ISSUER_` name that is no setting, with the setting that it resembles, or an empty string."""
    known = [name.upper() for name in Settings.model_fields]
    names = sorted(name.removeprefix("ISSUER_") for name in given_settings())
    return {
        f"ISSUER_{name}": "".join(f"ISSUER_{close}" for close in get_close_matches(name, known, 1))
        for name in names
        if name not in known
    }
