"""What is wrong with the settings themselves, before anything is opened by them."""

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
from issuer.settings.settings import SECRETS, BadSettings, Settings, concerns, setting_of
from issuer.settings.sources import Given, GivenTwice, cleaned, given_settings
from issuer.urls import suggest_issuer_url, suggest_origin

URLS = ("ISSUER_DATABASE_URL", "ISSUER_PROXY")
"""Secret only if they hold a password."""
_WITH_PASSWORD = re.compile(r"://[^/@]*:[^/]+@|[?&](?:ssl)?password=")
_NEW_TOKEN = "openssl rand -hex 16"  # noqa: S105 - a command
MAKE_METRICS_TOKEN = (
    f'(umask 077 && printf "\\nISSUER_METRICS_TOKEN=%s\\n" "$({_NEW_TOKEN})" >> .env) && chmod 600 .env'
)


def refused(error: BadSettings) -> Iterator[Finding]:
    """Yield what `load_settings` refused, setting by setting, and whatever else can be said of the settings then."""
    try:
        file, given = read_env_file(), given_settings()
    except (BadEnvFile, GivenTwice) as other:
        yield problem(str(other), other.fix)
        return
    unread = [each for each in file.unread if each.names_setting] if file else []
    for each, fault in zip(unread, error.faults, strict=False):
        yield problem(fault, each.fix)
    for fault in error.faults[len(unread) :]:
        name = setting_of(fault)
        yield problem(fault, _value_fix(name, given.get(name)))
    yield from given_as_meant()


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Yield settings that cannot hold together, with the arithmetic, or name a file that cannot be used."""
    for look in (settings.policy, settings.trusted_authorities, settings.hardware_token):
        try:
            look()
        except BadSettings as error:
            if error.fix:
                yield problem(str(error), error.fix)


def given_as_meant() -> Iterator[Finding]:
    """Yield who else may read secrets in `.env`, and the concerns about what is given."""
    file = read_env_file()
    if file:
        yield from _exposed(file)
    yield from warnings(concerns())


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
    """Yield that the module of an HSM is not where the settings say."""
    module = settings.pkcs11_module
    if settings.keys == "pkcs11" and module and not os.path.isfile(module):  # noqa: PTH113 - as elsewhere
        yield problem(
            f"ISSUER_PKCS11_MODULE is {module}, and there is no such file",
            Fix(Kind.PKCS11_MODULE, "ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so"),
        )


def not_as_thought(settings: Settings, *, tls: bool = False) -> Iterator[Finding]:
    """Yield what starts, and will not work as its operator thinks."""
    url = urlsplit(settings.url)
    if not settings.is_loopback and url.scheme == "http":
        yield warning(
            f"ISSUER_URL {settings.url} is plain http: verifiers and clients refuse it, or should",
            setting(Kind.URL_NOT_HTTPS, "ISSUER_URL", url._replace(scheme="https").geturl()),
        )
    if url.scheme == "https" and not tls and not settings.trusted_proxies:
        yield warning(
            "a proxy must terminate TLS in front of this (or see --ssl-certfile), but ISSUER_TRUSTED_PROXIES names"
            " none: limits on guessing count all clients as one address",
            Fix(Kind.NO_TRUSTED_PROXY, "ISSUER_TRUSTED_PROXIES=127.0.0.1"),
        )


def to_think_about(settings: Settings) -> Iterator[Finding]:
    """Yield what may be meant, and often is not."""
    path = urlsplit(settings.url).path
    if path:
        well_known = "/.well-known/oauth-authorization-server"
        yield warning(
            f"ISSUER_URL has the path {path}: the proxy must pass on all that is below it, with or without the path,"
            f" and {well_known}{path} as it is (RFC 8414 section 3.1)",
            setting(Kind.URL_WITH_PATH, "ISSUER_URL", settings.url.removesuffix(path)),
        )
    if settings.audience == settings.url:
        yield warning(
            "ISSUER_AUDIENCE is ISSUER_URL: every service would accept tokens that are for the issuer alone",
            Fix(Kind.AUDIENCE_IS_ISSUER, "ISSUER_AUDIENCE=https://api.example"),
        )
    if not settings.rotation_period:
        yield warning(
            "ISSUER_ROTATION_PERIOD is 0: keys rotate only when an operator does it",
            Fix(Kind.NO_ROTATION, "ISSUER_ROTATION_PERIOD=30d"),
        )
    if settings.is_loopback:
        return
    if settings.metrics_token is None:
        yield warning(
            "ISSUER_METRICS_TOKEN is not set: /metrics refuses everybody",
            Fix(Kind.METRICS_TOKEN_MISSING, MAKE_METRICS_TOKEN),
        )
    if settings.registration == "open":
        yield warning(
            "ISSUER_REGISTRATION is open: anybody may create an account",
            Fix(Kind.OPEN_REGISTRATION, "ISSUER_REGISTRATION=closed"),
        )


def _value_fix(name: str, given: Given | None) -> Fix:
    """Return the line in place of one that was refused: as it was meant, or else the default."""
    value = cleaned(given) if given else ""
    if name == "ISSUER_METRICS_TOKEN":
        if given is None or given.line is None:
            return Fix(Kind.METRICS_TOKEN_SHORT, f"export {name}=$({_NEW_TOKEN})")
        return Fix(Kind.METRICS_TOKEN_SHORT, f'sed -i "{given.line}s/.*/{name}=$({_NEW_TOKEN})/" .env')
    meant = {
        "ISSUER_URL": suggest_issuer_url(value) or "https://issuer.example",
        "ISSUER_AUDIENCE": suggest_issuer_url(value) or "https://api.example",
        "ISSUER_CORS_ORIGINS": ",".join(filter(None, map(suggest_origin, value.split(","))))
        or "https://app.example",
        "ISSUER_TRUSTED_PROXIES": "127.0.0.1",
        "ISSUER_PROXY": "http://HOST:PORT",
        "ISSUER_DATABASE_URL": url_form(value),
    }
    if name in meant:
        return setting(Kind.SETTING_VALUE, name, meant[name])
    if name == "ISSUER_KEYS_PASSPHRASE":
        return Fix(Kind.SETTING_VALUE, f"{name}_FILE=FILE")
    default = Settings.model_fields[name.removeprefix("ISSUER_").lower()].default
    if default is None:
        return Fix(Kind.SETTING_VALUE, f"{name}=FILE")
    return setting(
        Kind.SETTING_VALUE, name, duration(default) if isinstance(default, timedelta) else str(default)
    )
