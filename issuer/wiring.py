"""Settings, the clock, and `build`: the only place that makes objects, and that knows every room below.

Rooms above ask the `Issuer` it returns.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from issuer.grants.bearer import BearerAuthentication
from issuer.grants.permission import Means
from issuer.grants.pipeline import Pipeline
from issuer.keyring import BadPolicy, Policy
from issuer.passwords import HashingPool, Passwords
from issuer.rotation import Clock, Node, Rotation
from issuer.signing import Signer
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemDirectory, PemSigner
from issuer.store.accounts import AccountStore
from issuer.store.clients import ClientStore
from issuer.store.database import Database
from issuer.store.families import FamilyStore
from issuer.store.private_keys import PrivateKeyStore
from issuer.store.ring import RingStore

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,10}(?:\.\d{1,6})?)([smhd]?)")


class BadSettings(Exception):
    """The settings cannot be used; the message names each one and what is wrong with it."""


def clock() -> datetime:
    """Return the present; nothing else in this package reads the clock."""
    return datetime.now(UTC)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a duration as seconds or as 30d, 24h, 10m, 45s")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Settings(BaseSettings):
    """What an operator may set, from the environment or a file `.env`; each field is `ISSUER_` and its name."""

    model_config = SettingsConfigDict(
        env_prefix="ISSUER_", env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    url: str = Field(
        "http://127.0.0.1:8000", description="The issuer's URL: `iss`, and where clients find it."
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///issuer.db"), description="SQLite, or `postgresql://…` for several nodes."
    )
    keys: str = Field("keys", description="Where private keys live: a directory, or `database`.")
    keys_passphrase: SecretStr | None = Field(None, description="Encrypts private keys at rest.")
    keys_passphrase_file: Path | None = Field(None, description="A file that holds the passphrase.")
    algorithm: str = Field("RS256", description="For new keys: `RS256`, `PS256`, `ES256` or `EdDSA`.")
    audience: str = Field("http://127.0.0.1:8001", description="The resource that tokens are for by default.")
    access_token_lifetime: Duration = Field(
        timedelta(minutes=10), description="How long an access token lives."
    )
    refresh_token_lifetime: Duration = Field(
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

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("url")
    @classmethod
    def _is_issuer_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be http(s)://HOST with neither query nor fragment (RFC 8414 section 2)")
        if url.endswith("/"):
            raise ValueError("must not end with a slash: verifiers compare it to the letter")
        return url

    @field_validator("algorithm")
    @classmethod
    def _is_known(cls, algorithm: str) -> str:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
        return algorithm

    @property
    def is_loopback(self) -> bool:
        """Tell whether the issuer can be reached from this machine only."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def passphrase(self) -> str | None:
        """Return the passphrase for private keys; raise BadSettings if a reachable issuer has none."""
        if self.keys_passphrase and self.keys_passphrase_file:
            raise BadSettings("set ISSUER_KEYS_PASSPHRASE or ISSUER_KEYS_PASSPHRASE_FILE, not both")
        passphrase = self.keys_passphrase.get_secret_value() if self.keys_passphrase else ""
        if self.keys_passphrase_file:
            try:
                passphrase = self.keys_passphrase_file.read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadSettings(f"cannot read ISSUER_KEYS_PASSPHRASE_FILE: {error}") from error
        if not passphrase and not self.is_loopback:
            raise BadSettings(
                f"ISSUER_URL is {self.url}, which others can reach, so private keys must be encrypted: set"
                " ISSUER_KEYS_PASSPHRASE_FILE or ISSUER_KEYS_PASSPHRASE"
            )
        return passphrase or None

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
            raise BadSettings(str(error)) from error


def load_settings() -> Settings:
    """Return the settings of this process; raise BadSettings naming each that is wrong, without its value."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"ISSUER_{str(problem['loc'][0]).upper()}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise BadSettings("; ".join(lines)) from None


@dataclass(frozen=True)
class Issuer:
    """Everything that one process needs to be the issuer."""

    settings: Settings
    policy: Policy
    clock: Clock
    database: Database
    accounts: AccountStore
    clients: ClientStore
    families: FamilyStore
    passwords: Passwords
    hashing: HashingPool
    signer: Signer
    rotation: Rotation
    node: Node
    pipeline: Pipeline
    bearer: BearerAuthentication

    def close(self) -> None:
        """Let threads and connections go."""
        self.hashing.close()
        self.database.close()


def build(settings: Settings, clock: Clock = clock) -> Issuer:
    """Return the issuer for `settings`, its database brought up to date.

    Raise BadSettings, StoreError or KeyRingError when it cannot be.
    """
    policy = settings.policy()
    passphrase = settings.passphrase()
    database = Database(settings.database_url.get_secret_value())
    database.migrate()
    signer = _signer(settings.keys, passphrase, database)
    rotation = Rotation(RingStore(database), signer, policy, clock)
    node = Node(rotation, signer, clock)
    accounts, clients, families = AccountStore(database), ClientStore(database), FamilyStore(database)
    passwords = Passwords()
    means = Means(
        accounts=accounts,
        families=families,
        passwords=passwords,
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
    )
    pipeline = Pipeline(
        means=means,
        clients=clients,
        signer=signer,
        view=lambda: node.view,
        policy=policy,
        issuer=settings.url,
        refresh_lifetime=settings.refresh_token_lifetime,
        password_login=settings.password_login == "on",  # noqa: S105 - a switch
    )
    return Issuer(
        settings=settings,
        policy=policy,
        clock=clock,
        database=database,
        accounts=accounts,
        clients=clients,
        families=families,
        passwords=passwords,
        hashing=HashingPool(),
        signer=signer,
        rotation=rotation,
        node=node,
        pipeline=pipeline,
        bearer=BearerAuthentication(accounts, lambda: node.view, policy, settings.url),
    )


def _signer(keys: str, passphrase: str | None, database: Database) -> Signer:
    if keys == "pkcs11":
        raise BadSettings(
            "ISSUER_KEYS=pkcs11 is not supported by this version; use a directory or `database`"
        )
    vault = PrivateKeyStore(database) if keys == "database" else PemDirectory(Path(keys))
    return PemSigner(vault, passphrase)
