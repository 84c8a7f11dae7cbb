"""All settings: names, types, defaults and descriptions, and which of them contradict each other.

`loading` loads them. The forms of values are defined in `values`, their sources in `sources`; what is built from
settings, in `wiring`.
"""

import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from issuer import urls
from issuer.fixes import ConfigWarning, Fix, Kind
from issuer.keyring.policy import BadPolicy, Policy
from issuer.settings import passphrase as passphrases
from issuer.settings import values
from issuer.settings.authorities import load_authorities
from issuer.settings.env_file import BadEnvFile
from issuer.settings.hardware_token import MissingSettings, require_complete
from issuer.settings.logo import Logo, load_logo
from issuer.settings.mail import MailSettings
from issuer.settings.pages import PageSettings
from issuer.settings.sources import DuplicateSetting, RawSource, raw_settings
from issuer.urls import is_loopback


class BadSettings(Exception):
    """The settings cannot be used; the message names each invalid setting and the reason.

    `errors` has one message for each; `fix` is the fix if there is a single error with one. `rest` are the settings
    with defaults in place of the invalid ones: they may have further errors.
    """

    def __init__(self, *errors: str, fix: Fix | None = None, rest: "Settings | None" = None) -> None:
        others = [] if rest is None else map(str, rest.contradictions(besides=errors))
        super().__init__("; ".join([*errors, *others]))
        self.errors = errors
        self.fix = fix
        self.rest = rest


class Settings(MailSettings, PageSettings):
    """All settings, from the environment or `.env`: the name of each is `ISSUER_` and the name of its field."""

    model_config = SettingsConfigDict(
        env_prefix="ISSUER_", extra="ignore", hide_input_in_errors=True, frozen=True
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
    keys_passphrase_file: values.FilePath | None = Field(
        None, description="A file that holds the passphrase or PIN."
    )
    pkcs11_module: values.FilePath | None = Field(
        None, description="With `pkcs11`: the shared library of the token."
    )
    pkcs11_token: str | None = Field(None, description="With `pkcs11`: the label of the token.")
    algorithm: str = Field(
        "RS256", description="Algorithm of new keys: `RS256`, `PS256`, `ES256` or `EdDSA`."
    )
    audience: str = Field("http://127.0.0.1:8001", description="The default audience of tokens.")
    access_token_lifetime: values.Lifetime = Field(
        timedelta(minutes=10), description="Lifetime of an access token."
    )
    refresh_token_lifetime: values.Lifetime = Field(
        timedelta(days=30), description="Lifetime of an unused refresh token."
    )
    rotation_period: values.Duration = Field(
        timedelta(days=30), description="How long a key signs; `0`: only manual rotation."
    )
    publish_lead: values.Duration = Field(
        timedelta(hours=24), description="How long a key is published before it signs."
    )
    jwks_max_age: values.Duration = Field(
        timedelta(minutes=5), description="For how long verifiers may cache the JWKS."
    )
    standby_keys: int = Field(1, ge=1, le=10, description="How many standby keys are published.")
    outage_limit: values.Duration = Field(
        timedelta(hours=1), description="How long a node without its database continues to publish the JWKS."
    )
    node_timeout: values.Duration = Field(
        timedelta(seconds=30), description="After this a node that has not read the key ring stops signing."
    )
    clock_skew: values.Duration = Field(timedelta(seconds=30), description="How far clocks may differ.")
    event_retention: values.Duration = Field(
        timedelta(days=400), description="How long events of accounts and clients are kept; `0`: forever."
    )
    refresh_grace: values.Grace = Field(
        timedelta(seconds=30),
        description="How long a used refresh token is answered with its successor again, once: for a lost response.",
    )
    password_login: Annotated[Literal["on", "off"], values.ANY_CASE] = Field(
        "on",
        description="Whether applications may log users in by password, at `/login` and with the grant `password`;"
        " signing in with a browser is not affected.",
    )
    assertion_audience: Annotated[Literal["issuer", "any"], values.ANY_CASE] = Field(
        "issuer",
        description="The `aud` of client assertions: `issuer`, its URL as one string; `any`, also the token endpoint,"
        " that of pushed requests, or a list, for old libraries.",
    )
    claims: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further claims of access tokens: names of attributes (`issuer users set`), separated by commas,"
        " or a function, `MODULE:FUNCTION`.",
    )
    username_claim: Annotated[Literal["on", "off"], values.ANY_CASE] = Field(
        "on", description="Whether access tokens of users have the claim `username`."
    )
    public_scopes: str = Field(
        "",
        description="Scopes of services, separated by spaces, that `scopes_supported` lists beside those about the"
        " user: clients may request all that are listed there.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of pages that may use `/login`, `/logout` and `/users`, separated by commas."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted."
    )
    census: Annotated[Literal["on", "off"], values.ANY_CASE] = Field(
        "on",
        description="Whether names and addresses of verifiers are kept for 48 hours, for `issuer keys verifiers`.",
    )
    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="The bearer token for `/metrics`; none is needed on a loopback URL."
    )
    ca_file: values.FilePath | None = Field(
        None,
        description="PEM certificates of authorities that are trusted in addition to the system's for the key sets of"
        " clients (`jwks_uri`).",
    )
    proxy: SecretStr | None = Field(
        None, description="The proxy through which key sets of clients are fetched: `http://HOST:PORT`."
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
        # `RawSource` reads both, by the same rules.
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, RawSource(settings_cls)

    _split = field_validator("cors_origins", "trusted_proxies", "claims", mode="before")(values.split)
    _are_origins = field_validator("cors_origins")(values.origins)
    _are_claims = field_validator("claims")(values.claims)
    _are_scopes = field_validator("public_scopes")(values.scopes)
    _are_networks = field_validator("trusted_proxies")(values.networks)
    _is_database_url = field_validator("database_url")(values.database_url)
    _is_issuer_url = field_validator("url")(urls.issuer_url)
    _is_resource = field_validator("audience")(urls.default_resource)
    _is_unambiguous = field_validator("keys_passphrase")(values.unambiguous)
    _is_header_text = field_validator("metrics_token")(values.header_text)
    _is_proxy = field_validator("proxy")(values.proxy)
    _is_known_place = field_validator("keys")(values.place_of_keys)
    _is_known = field_validator("algorithm")(values.algorithm)
    _is_one_line = field_validator("*", mode="before")(values.one_line)

    @property
    def is_loopback(self) -> bool:
        """Whether the issuer can be reached from this machine only."""
        return is_loopback(self.url)

    @property
    def key_directory(self) -> Path | None:
        """The directory of private keys; None where they are in the database or in a token."""
        return None if self.keys in values.NOT_IN_FILES else Path(self.keys)

    def passphrase(self) -> str | None:
        """Return the passphrase for private keys; raise BadSettings if a reachable issuer has none."""
        written = self.keys_passphrase.get_secret_value() if self.keys_passphrase else None
        try:
            passphrase = passphrases.read_usable(written, self.keys_passphrase_file)
        except passphrases.BadPassphrase as error:
            raise BadSettings(str(error)) from error
        if passphrase is None and not self.is_loopback:
            raise BadSettings(
                f"ISSUER_URL is {self.url}, which others can reach, so private keys must be encrypted: set"
                " ISSUER_KEYS_PASSPHRASE_FILE or ISSUER_KEYS_PASSPHRASE"
            )
        return passphrase

    def passphrase_warnings(self) -> Iterator[ConfigWarning]:
        """Yield warnings about the passphrase and its file; none if it cannot be read: an error elsewhere."""
        file = self.keys_passphrase_file
        if file:
            yield from passphrases.file_warnings(file)
        with suppress(BadSettings, BadEnvFile, DuplicateSetting):  # reported where the passphrase is needed
            passphrase = self.passphrase()
            if self.keys != "pkcs11":
                raw = raw_settings().get("ISSUER_KEYS_PASSPHRASE")
                yield from passphrases.length_warnings(passphrase, file, raw, self.key_directory)

    def trusted_authorities(self) -> ssl.SSLContext | None:
        """Return the authorities that other servers are verified by, None for the system's; raise BadSettings."""
        try:
            return load_authorities(self.ca_file) if self.ca_file else None
        except ValueError as error:
            raise BadSettings(
                f"ISSUER_CA_FILE: cannot use {self.ca_file}: {error}",
                fix=Fix(Kind.CA_FILE, "ISSUER_CA_FILE=FILE"),
            ) from error

    def logo_image(self) -> Logo | None:
        """Return the logo, None if there is none; raise BadSettings."""
        try:
            return load_logo(self.logo) if self.logo else None
        except ValueError as error:
            fix = Fix(Kind.LOGO, "ISSUER_LOGO=FILE")
            raise BadSettings(f"ISSUER_LOGO: cannot use {self.logo}: {error}", fix=fix) from error

    def hardware_token(self) -> tuple[Path, str] | None:
        """Return module and label of the PKCS#11 token with the private keys, or None; raise BadSettings."""
        if self.keys != "pkcs11":
            return None
        pin = self.keys_passphrase or self.keys_passphrase_file
        try:
            return require_complete(self.pkcs11_module, self.pkcs11_token, has_pin=pin is not None)
        except MissingSettings as error:
            raise BadSettings(str(error), fix=error.fix) from None

    def contradictions(self, besides: Iterable[str] = ()) -> Iterator["BadSettings"]:
        """Yield why these settings cannot be used together, or with what is there.

        Settings with an error in `besides` are left out: here they have their defaults.
        """
        reported = {setting_of(error) for error in besides}
        files = self.trusted_authorities, self.logo_image, self.passphrase
        for look in (self.policy, *files, self.hardware_token):
            try:
                look()
            except BadSettings as error:
                if not any(name in str(error) for name in reported):
                    yield error

    def require_usable(self) -> None:
        """Raise BadSettings with all contradictions."""
        found = list(self.contradictions())
        if found:
            raise BadSettings(*(error for each in found for error in each.errors), fix=found[0].fix)

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
            raise BadSettings(str(error), fix=error.fix) from error


def setting_of(error: str) -> str:
    """Return the name of the setting with which an error begins."""
    return re.split(r"\W", error, maxsplit=1)[0]
