"""What is wrong with the settings themselves, before anything is opened by them."""

import os
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from issuer.checks.finding import Finding, problem, warning
from issuer.policy import duration
from issuer.settings import BadSettings, Settings, given_settings, unknown_settings

ENV = Path(".env")
SECRETS = ("ISSUER_KEYS_PASSPHRASE", "ISSUER_METRICS_TOKEN", "ISSUER_DATABASE_URL")
MEND_ENV = f"sudo chown {os.geteuid()} {ENV}; chmod 600 {ENV}; file {ENV}"
OTHERS = 0o077
MAKE_ONE = (
    "(umask 077 && openssl rand -base64 24 > passphrase)"
    ' && echo "ISSUER_KEYS_PASSPHRASE_FILE=$PWD/passphrase" >> .env'
)
MAKE_METRICS_TOKEN = 'echo "ISSUER_METRICS_TOKEN=$(openssl rand -hex 16)" >> .env'  # noqa: S105 - a command


def unreadable(error: BadSettings) -> Iterator[Finding]:
    """Yield what `load_settings` refused, setting by setting."""
    given = {} if is_env_unreadable() else given_settings()
    for fault in error.faults:
        name = fault.partition(":")[0]
        known = name.removeprefix("ISSUER_").lower() in Settings.model_fields
        yield problem(fault, _line(name, given.get(name, "")) if known else MEND_ENV)


def is_env_unreadable() -> bool:
    """Tell whether `.env` is there and cannot be read."""
    try:
        _env_lines()
    except (OSError, UnicodeDecodeError):
        return True
    return False


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Yield settings that cannot hold together, with the arithmetic."""
    try:
        settings.policy()
    except BadSettings as error:
        yield problem(str(error), error.mend or "")


def misspelt() -> Iterator[Finding]:
    """Yield each `ISSUER_` name that is no setting."""
    in_file = {line.partition("=")[0].strip() for line in _env_lines()}
    for name, resembles in unknown_settings().items():
        wrong = f"{name} is no setting" + (f"; did you mean {resembles}?" if resembles else "")
        if name in os.environ:
            yield warning(wrong, f"unset {name}")
        elif resembles and resembles not in in_file:
            yield warning(wrong, f"sed -i 's/^{name}=/{resembles}=/' {ENV}")
        else:
            yield warning(wrong, f"sed -i '/^{name}=/d' {ENV}")


def env_file() -> Iterator[Finding]:
    """Yield that others may read secrets in `.env`."""
    secret = [name for name in SECRETS if any(line.startswith(f"{name}=") for line in _env_lines())]
    if secret and ENV.stat().st_mode & OTHERS:
        mode = f"{ENV.stat().st_mode & 0o7777:04o}"
        yield problem(f"others may read {ENV} (mode {mode}), which holds {secret[0]}", f"chmod 600 {ENV}")


def passphrase(settings: Settings) -> Iterator[Finding]:
    """Yield why there is no passphrase for the private keys, or who else may read it."""
    file = settings.keys_passphrase_file
    try:
        settings.passphrase()
    except BadSettings as error:
        yield problem(str(error), _mend_passphrase(settings))
    if file and file.exists() and file.stat().st_mode & OTHERS:
        mode = f"{file.stat().st_mode & 0o7777:04o}"
        yield warning(
            f"others may read {file} (mode {mode}), the passphrase of the private keys",
            f"chmod 600 {shlex.quote(str(file))}",
        )


def hardware_token(settings: Settings) -> Iterator[Finding]:
    """Yield what keys in an HSM need and the settings lack."""
    try:
        token = settings.hardware_token()
    except BadSettings as error:
        missing = [
            line
            for line, value in (
                ("ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so", settings.pkcs11_module),
                ("ISSUER_PKCS11_TOKEN=LABEL", settings.pkcs11_token),
                (
                    "ISSUER_KEYS_PASSPHRASE_FILE=FILE",
                    settings.keys_passphrase or settings.keys_passphrase_file,
                ),
            )
            if not value
        ]
        yield problem(str(error), "\n".join(missing))
        return
    if token and not token[0].is_file():
        yield problem(
            f"ISSUER_PKCS11_MODULE is {token[0]}, and there is no such file",
            "ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so",
        )


def not_as_thought(settings: Settings, *, tls: bool = False) -> Iterator[Finding]:
    """Yield what starts, and will not work as its operator thinks."""
    url = urlsplit(settings.url)
    if not settings.is_loopback and url.scheme == "http":
        yield warning(
            f"ISSUER_URL {settings.url} is plain http: verifiers and clients refuse it, or should",
            f"ISSUER_URL={url._replace(scheme='https').geturl()}",
        )
    if url.scheme == "https" and not tls and not settings.trusted_proxies:
        yield warning(
            "a proxy must terminate TLS in front of this (or see --ssl-certfile), but ISSUER_TRUSTED_PROXIES names"
            " none: limits on guessing count all clients as one address",
            "ISSUER_TRUSTED_PROXIES=127.0.0.1",
        )


def to_think_about(settings: Settings) -> Iterator[Finding]:
    """Yield what may be meant, and often is not."""
    path = urlsplit(settings.url).path
    if path:
        well_known = "/.well-known/oauth-authorization-server"
        yield warning(
            f"ISSUER_URL has the path {path}: the proxy must take it off, and pass {well_known}{path} on as"
            f" {well_known} (RFC 8414 section 3.1)",
            f"ISSUER_URL={settings.url.removesuffix(path)}",
        )
    if settings.audience == settings.url:
        yield warning(
            "ISSUER_AUDIENCE is ISSUER_URL: every service would accept tokens that are for the issuer alone",
            "ISSUER_AUDIENCE=https://SERVICE",
        )
    if not settings.rotation_period:
        yield warning(
            "ISSUER_ROTATION_PERIOD is 0: keys rotate only when an operator does it",
            "ISSUER_ROTATION_PERIOD=30d",
        )
    if settings.is_loopback:
        return
    if settings.metrics_token is None:
        yield warning("ISSUER_METRICS_TOKEN is not set: /metrics refuses everybody", MAKE_METRICS_TOKEN)
    if settings.registration == "open":
        yield warning(
            "ISSUER_REGISTRATION is open: anybody may make an account", "ISSUER_REGISTRATION=closed"
        )


def _mend_passphrase(settings: Settings) -> str:
    file = settings.keys_passphrase_file
    if settings.keys_passphrase is not None:
        name = "ISSUER_KEYS_PASSPHRASE"
        return f"unset {name}" if name in os.environ else f"sed -i '/^{name}=/d' {ENV}"
    if file is None or not file.exists():
        return MAKE_ONE
    if file.is_file() and file.stat().st_size:
        return f"sudo chown {os.geteuid()} {shlex.quote(str(file))} && chmod 600 {shlex.quote(str(file))}"
    return MAKE_ONE


def _line(name: str, value: str) -> str:
    """Return the line for `.env` in place of one that was refused: as it was meant, or else the default."""
    match name:
        case "ISSUER_URL":
            url = urlsplit(value) if value.startswith(("http://", "https://")) else None
            meant = (
                f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"
                if url
                else "https://HOST"
            )
            return f"{name}={meant}"
        case "ISSUER_CORS_ORIGINS":
            parts = [urlsplit(part.strip()) for part in value.split(",")]
            origins = [
                f"{part.scheme}://{part.netloc}" for part in parts if part.netloc and "*" not in part.netloc
            ]
            return f"{name}={','.join(origins) or 'https://APP'}"
        case "ISSUER_METRICS_TOKEN":
            return MAKE_METRICS_TOKEN
        case "ISSUER_TRUSTED_PROXIES":
            return f"{name}=127.0.0.1"
    default = Settings.model_fields[name.removeprefix("ISSUER_").lower()].default
    return f"{name}={duration(default) if isinstance(default, timedelta) else default}"


def _env_lines() -> list[str]:
    return ENV.read_text("utf-8").splitlines() if ENV.is_file() else []
