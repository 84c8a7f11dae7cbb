"""Checks of the settings themselves, before anything is opened with them."""

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from issuer.checks.finding import Finding, problem, warning, warnings
from issuer.checks.storage import url_form
from issuer.clock import duration
from issuer.fixes import Fix, Kind, quoted, setting
from issuer.settings.env_file import BadEnvFile, EnvFile, read_env_file
from issuer.settings.loading import SECRETS, setting_warnings
from issuer.settings.settings import BadSettings, Settings, setting_of
from issuer.settings.sources import DuplicateSetting, RawSetting, normalized, raw_settings
from issuer.tokens.further_claims import BadClaimsFunction, further_claims
from issuer.urls import suggest_issuer_url, suggest_origin

URLS = ("ISSUER_DATABASE_URL", "ISSUER_PROXY", "ISSUER_SMTP_URL")
"""Settings that are secret only if they contain a password."""
_WITH_PASSWORD = re.compile(r"://[^/@]*:[^/]+@|[?&](?:ssl)?password=")
_NEW_TOKEN = "openssl rand -hex 16"  # noqa: S105 - a command
MAKE_METRICS_TOKEN = (
    f'(umask 077 && printf "\\nISSUER_METRICS_TOKEN=%s\\n" "$({_NEW_TOKEN})" >> .env) && chmod 600 .env'
)


def refused(error: BadSettings) -> Iterator[Finding]:
    """Yield each setting that `load_settings` refused, and warnings about the others."""
    try:
        file, given = read_env_file(), raw_settings()
    except (BadEnvFile, DuplicateSetting) as other:
        yield problem(str(other), other.fix)
        return
    unread = [each for each in file.unread if each.names_setting] if file else []
    for each, fault in zip(unread, error.errors, strict=False):
        yield problem(fault, each.fix)
    for fault in error.errors[len(unread) :]:
        name = setting_of(fault)
        yield problem(fault, _value_fix(name, given.get(name)))
    yield from given_values()


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Yield settings that contradict each other, with the calculation, or that name an unusable file."""
    files = settings.trusted_authorities, settings.logo_image
    for load in (settings.policy, *files, settings.hardware_token):
        try:
            load()
        except BadSettings as error:
            if error.fix:
                yield problem(str(error), error.fix)
    try:
        further_claims(settings.claims)
    except BadClaimsFunction as error:
        yield problem(f"ISSUER_CLAIMS: {error}", Fix(Kind.SETTING_VALUE, "ISSUER_CLAIMS=MODULE:FUNCTION"))


def given_values() -> Iterator[Finding]:
    """Yield secrets in `.env` that others may read, and warnings about given settings."""
    file = read_env_file()
    if file:
        yield from _exposed(file)
    yield from warnings(setting_warnings())


def _exposed(file: EnvFile) -> Iterator[Finding]:
    held = [each.name.upper() for each in file.assignments if _is_secret(each.name.upper(), each.value)]
    if held and file.is_exposed:
        yield problem(
            f"others may read {file.path} (mode {file.mode:04o}), which holds {held[0]}",
            Fix(Kind.ENV_READABLE, f"chmod 600 {quoted(file.path)}"),
        )


def _is_secret(name: str, value: str) -> bool:
    holds_secret = bool(_WITH_PASSWORD.search(value) if name in URLS else value.strip())
    return name in SECRETS and holds_secret


def hardware_token(settings: Settings) -> Iterator[Finding]:
    """Yield a problem if the PKCS#11 module does not exist."""
    module = settings.pkcs11_module
    if settings.keys == "pkcs11" and module and not os.path.isfile(module):  # noqa: PTH113 - as elsewhere
        yield problem(
            f"ISSUER_PKCS11_MODULE: no such file: {module}",
            Fix(Kind.PKCS11_MODULE, "ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so"),
        )


def likely_mistakes(settings: Settings, *, tls: bool = False) -> Iterator[Finding]:
    """Yield warnings about settings that work, but hardly as intended."""
    url = urlsplit(settings.url)
    if not settings.is_loopback and url.scheme == "http":
        yield warning(
            f"ISSUER_URL {settings.url} is plain http: verifiers and clients should refuse it",
            setting(Kind.URL_NOT_HTTPS, "ISSUER_URL", url._replace(scheme="https").geturl()),
        )
    if url.scheme == "https" and not tls and not settings.trusted_proxies:
        yield warning(
            "ISSUER_URL is https, so a proxy must terminate TLS (or see --ssl-certfile), but ISSUER_TRUSTED_PROXIES"
            " is empty: limits on guessing count all clients as one address",
            Fix(Kind.NO_TRUSTED_PROXY, "ISSUER_TRUSTED_PROXIES=127.0.0.1"),
        )


def unusual_choices(settings: Settings) -> Iterator[Finding]:
    """Yield warnings about settings that may be intended."""
    path = urlsplit(settings.url).path
    if path:
        well_known = "/.well-known/oauth-authorization-server"
        yield warning(
            f"ISSUER_URL has the path {path}: the proxy must forward everything below it, with or without the path,"
            f" and {well_known}{path} unchanged (RFC 8414 section 3.1)",
            setting(Kind.URL_WITH_PATH, "ISSUER_URL", settings.url.removesuffix(path)),
        )
    if settings.audience == settings.url:
        yield warning(
            "ISSUER_AUDIENCE equals ISSUER_URL: every service would accept tokens that are for the issuer only",
            Fix(Kind.AUDIENCE_IS_ISSUER, "ISSUER_AUDIENCE=https://api.example"),
        )
    if not settings.rotation_period:
        yield warning(
            "ISSUER_ROTATION_PERIOD is 0: keys are only rotated manually",
            Fix(Kind.NO_ROTATION, "ISSUER_ROTATION_PERIOD=30d"),
        )
    if settings.is_loopback:
        return
    if settings.metrics_token is None:
        yield warning(
            "ISSUER_METRICS_TOKEN is not set: /metrics refuses every request",
            Fix(Kind.METRICS_TOKEN_MISSING, MAKE_METRICS_TOKEN),
        )
    if settings.registration == "open":
        yield warning(
            "ISSUER_REGISTRATION is open: anyone may create an account",
            Fix(Kind.OPEN_REGISTRATION, "ISSUER_REGISTRATION=closed"),
        )


def _value_fix(name: str, given: RawSetting | None) -> Fix:
    """Return a line to replace one that was refused: with the probable value, or else the default."""
    value = normalized(given) if given else ""
    if name == "ISSUER_METRICS_TOKEN":
        if given is None or given.line is None:
            return Fix(Kind.METRICS_TOKEN_SHORT, f"export {name}=$({_NEW_TOKEN})")
        return Fix(Kind.METRICS_TOKEN_SHORT, f'sed -i "{given.line}s/.*/{name}=$({_NEW_TOKEN})/" .env')
    suggested = {
        "ISSUER_URL": suggest_issuer_url(value) or "https://issuer.example",
        "ISSUER_AUDIENCE": suggest_issuer_url(value) or "https://api.example",
        "ISSUER_CORS_ORIGINS": ",".join(filter(None, map(suggest_origin, value.split(","))))
        or "https://app.example",
        "ISSUER_TRUSTED_PROXIES": "127.0.0.1",
        "ISSUER_CLAIMS": "department",
        "ISSUER_PROXY": "http://HOST:PORT",
        "ISSUER_SMTP_URL": "smtps://USER:PASSWORD@HOST",
        "ISSUER_MAIL_FROM": "accounts@issuer.example",
        "ISSUER_DATABASE_URL": url_form(value),
    }
    if name in suggested:
        return setting(Kind.SETTING_VALUE, name, suggested[name])
    if name == "ISSUER_KEYS_PASSPHRASE":
        return Fix(Kind.SETTING_VALUE, f"{name}_FILE=FILE")
    default = Settings.model_fields[name.removeprefix("ISSUER_").lower()].default
    if default is None:
        return Fix(Kind.SETTING_VALUE, f"{name}=FILE")
    return setting(
        Kind.SETTING_VALUE, name, duration(default) if isinstance(default, timedelta) else str(default)
    )
