"""Every setting of issuer and example, in every form in which people and machines write one.

Empty, blank, with blanks or quotes around it, with the end of a line, in another case; from the environment and from
`.env`. Each works as the plain value does, or is refused in one line that names the setting and shows no secret. A
setting without a row here fails.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings
from issuer.settings.settings import Settings as IssuerSettings
from verifier_example.app import create_app
from verifier_example.settings import Settings as VerifierSettings
from verifier_example.settings import load_settings as load_verifier_settings

SECRET = "a secret of 16 characters"


@dataclass(frozen=True)
class Row:
    """A value that is not the default, whether it may be written in another case, and whether it is secret."""

    value: str
    any_case: bool = False
    secret: bool = False
    verbatim: bool = False
    """Blanks and quotes may be a part of it: they are refused."""


ISSUER = {
    "ISSUER_URL": Row("https://issuer.example:8443/auth"),
    "ISSUER_DATABASE_URL": Row(f"postgresql://me:{SECRET.replace(' ', '-')}@db.example/issuer", secret=True),
    "ISSUER_KEYS": Row("database", any_case=True),
    "ISSUER_KEYS_PASSPHRASE": Row(SECRET, secret=True, verbatim=True),
    "ISSUER_KEYS_PASSPHRASE_FILE": Row("/etc/issuer/passphrase"),
    "ISSUER_PKCS11_MODULE": Row("/usr/lib/module.so"),
    "ISSUER_PKCS11_TOKEN": Row("my token"),
    "ISSUER_ALGORITHM": Row("EdDSA", any_case=True),
    "ISSUER_AUDIENCE": Row("https://api.example/v1"),
    "ISSUER_ACCESS_TOKEN_LIFETIME": Row("5m"),
    "ISSUER_REFRESH_TOKEN_LIFETIME": Row("2d"),
    "ISSUER_ROTATION_PERIOD": Row("60d"),
    "ISSUER_PUBLISH_LEAD": Row("2d"),
    "ISSUER_JWKS_MAX_AGE": Row("4m"),
    "ISSUER_STANDBY_KEYS": Row("3"),
    "ISSUER_OUTAGE_LIMIT": Row("2h"),
    "ISSUER_NODE_TIMEOUT": Row("20s"),
    "ISSUER_CLOCK_SKEW": Row("10s"),
    "ISSUER_REGISTRATION": Row("closed", any_case=True),
    "ISSUER_NAME": Row("Example accounts"),
    "ISSUER_LOGO": Row("/etc/issuer/logo.svg"),
    "ISSUER_BROWSER_SESSION_LIFETIME": Row("8h"),
    "ISSUER_BROWSER_SESSION_IDLE": Row("1h"),
    "ISSUER_BROWSER_SESSION_REMEMBERED": Row("14d"),
    "ISSUER_REFRESH_GRACE": Row("45s"),
    "ISSUER_EVENT_RETENTION": Row("90d"),
    "ISSUER_PASSWORD_LOGIN": Row("off", any_case=True),
    "ISSUER_ASSERTION_AUDIENCE": Row("any", any_case=True),
    "ISSUER_CLAIMS": Row("department,site"),
    "ISSUER_USERNAME_CLAIM": Row("off", any_case=True),
    "ISSUER_PUBLIC_SCOPES": Row("items:read items:write"),
    "ISSUER_CORS_ORIGINS": Row("https://a.example,https://b.example:8443"),
    "ISSUER_TRUSTED_PROXIES": Row("10.0.0.0/8,192.0.2.1"),
    "ISSUER_CENSUS": Row("off", any_case=True),
    "ISSUER_METRICS_TOKEN": Row(SECRET, secret=True),
    "ISSUER_CA_FILE": Row("/etc/ssl/ca.pem"),
    "ISSUER_SMTP_URL": Row("smtps://me:hidden@mail.example:465", secret=True),
    "ISSUER_MAIL_FROM": Row("accounts@issuer.example"),
    "ISSUER_PROXY": Row("http://me:hidden@proxy.example:3128", secret=True),
}
VERIFIER = {
    "VERIFIER_ISSUER": Row("https://issuer.example"),
    "VERIFIER_AUDIENCE": Row("https://api.example"),
    "VERIFIER_JWKS_URL": Row("https://issuer.example/jwks"),
    "VERIFIER_TTL_FLOOR": Row("7m"),
    "VERIFIER_COOLDOWN": Row("20s"),
    "VERIFIER_MAX_STALE": Row("3h"),
    "VERIFIER_ALGORITHMS": Row("RS256,EdDSA", any_case=True),
    "VERIFIER_ALLOW_HTTP": Row("true", any_case=True),
    "VERIFIER_CA_FILE": Row("/etc/ssl/ca.pem"),
    "VERIFIER_NAME": Row("billing"),
    "VERIFIER_LISTEN": Row("false", any_case=True),
    "VERIFIER_DOCS_CLIENT_ID": Row("b7c2a8de-4a1d-4c8a-9d1e-2f6b0a1c3d4e"),
    "VERIFIER_PROXY": Row("http://me:hidden@proxy.example:3128", secret=True),
}
ROWS = ISSUER | VERIFIER
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "empty": lambda _: "",
    "blank": lambda _: "  \t ",
    "blanks around it": lambda value: f"  {value} ",
    "a tab around it": lambda value: f"\t{value}\t",
    "double quotes": lambda value: f'"{value}"',
    "single quotes": lambda value: f"'{value}'",
    "empty quotes": lambda _: '""',
    "the end of a line": lambda value: f"{value}\n",
    "the end of a line of Windows": lambda value: f"{value}\r\n",
    "two lines": lambda value: f"{value}\n{value}",
    "upper case": lambda value: value.upper(),
    "lower case": lambda value: value.lower(),
}
MAY_BE_REFUSED = {"two lines", "upper case", "lower case"}
"""Forms in which the value is another one."""
AMBIGUOUS = {"blanks around it", "a tab around it", "double quotes", "single quotes"}
"""Forms in which a passphrase may be meant with what is around it."""


def test_every_setting_has_a_row() -> None:
    for kind in (IssuerSettings, VerifierSettings):
        prefix = str(kind.model_config.get("env_prefix"))
        rows = {name for name in ROWS if name.startswith(prefix)}
        names = {f"{prefix}{name.upper()}" for name in kind.model_fields}
        assert names - rows == set(), "these have no row above"


def known_names() -> Iterator[str]:
    for kind in (IssuerSettings, VerifierSettings):
        yield from (f"{kind.model_config.get('env_prefix')}{name.upper()}" for name in kind.model_fields)


def read(name: str) -> Any:
    """Return the value of a setting as the process has it; raise ValueError with what it would say."""
    field = name.partition("_")[2].lower()
    if name.startswith("ISSUER_"):
        try:
            value = getattr(load_settings(), field)
        except BadSettings as error:
            raise ValueError(str(error)) from None
    else:
        value = getattr(load_verifier_settings(), field)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def default(name: str) -> Any:
    kind = IssuerSettings if name.startswith("ISSUER_") else VerifierSettings
    value = kind.model_fields[name.partition("_")[2].lower()].default
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.fixture(params=["the environment", "the environment, in lower case", ".env", ".env, in lower case"])
def give(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, str], None]:
    def given(name: str, value: str) -> None:
        spelled = name.lower() if "lower" in request.param else name
        if ".env" in request.param:
            (tmp_path / ".env").write_bytes(f"{spelled}={value}\n".encode())
            (tmp_path / ".env").chmod(0o600)
        else:
            monkeypatch.setenv(spelled, value)

    return given


@pytest.mark.processes
@pytest.mark.parametrize("form", FORMS)
def test_a_setting_works_in_any_form_or_is_refused_in_one_line_without_a_secret(
    give: Callable[[str, str], None], form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = []
    for name in known_names():
        row = ROWS[name]
        give(name, FORMS[form](row.value))
        try:
            got: Any = read(name)
        except ValueError as error:
            got = None
            wrong += [f"{name}: {fault}" for fault in faults(name, row, form, str(error))]
        else:
            wrong += [f"{name}: {fault}" for fault in misread(name, row, form, got)]
        (tmp_path / ".env").unlink(missing_ok=True)
        for spelled in (name, name.lower()):
            monkeypatch.delenv(spelled, raising=False)
    assert wrong == []


def faults(name: str, row: Row, form: str, message: str) -> Iterator[str]:
    """Yield what is wrong with a refusal, or that there is one."""
    if form not in MAY_BE_REFUSED and not (row.verbatim and form in AMBIGUOUS):
        yield f"is refused: {message}"
    if "\n" in message.strip():
        yield f"is refused in several lines: {message!r}"
    if name not in message and "line 1 of .env" not in message:
        yield f"is refused without its name: {message}"
    if row.secret and any(
        part in message.lower() for part in re.split(r"[:/@]", row.value.lower()) if len(part) > 9
    ):
        yield f"is shown: {message}"


def misread(name: str, row: Row, form: str, got: Any) -> Iterator[str]:
    """Yield that a value was read as another one than the plain form is."""
    if form in {"empty", "blank", "empty quotes"}:
        if got != default(name):
            yield f"is {got!r} and not the default"
        return
    with pytest.MonkeyPatch.context() as patch:
        for spelled in list(os.environ):
            if spelled.upper() == name:
                patch.delenv(spelled)
        env = Path(".env")
        held = env.read_bytes() if env.exists() else None
        env.unlink(missing_ok=True)
        patch.setenv(name, row.value)
        plain = read(name)
        patch.delenv(name)
        if held is not None:
            env.write_bytes(held)
            env.chmod(0o600)
    cased = form in {"upper case", "lower case"} and not row.any_case
    if got != plain and not cased and form != "two lines":
        yield f"is {got!r} and not {plain!r}"


@pytest.mark.parametrize(
    "line", ["VERIFIER_AUDIENCE https://api.example", "VERIFIER_AUDIENCE", 'verifier_audience="x']
)
def test_a_line_that_names_a_setting_of_the_example_and_cannot_be_read_is_refused(
    line: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"not for us\n\n{line}\n")
    (tmp_path / ".env").chmod(0o600)
    with pytest.raises(ValueError, match=r"^line 3 of \.env cannot be read: write NAME=value$"):
        load_verifier_settings()


@pytest.mark.processes
def test_the_service_reports_all_errors_at_once_and_before_it_listens() -> None:
    wrong = {
        "VERIFIER_ISSUER": "htp:x",
        "VERIFIER_JWKS_URL": "ftp://a",
        "VERIFIER_TTL_FLOOR": "soon",
        "VERIFIER_ALLOW_HTTP": "perhaps",
        "VERIFIER_CA_FILE": "/nonexistent",
        "VERIFIER_PROXY": "socks",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "verifier_example", "--port", "1"],
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert all(f"{name}: " in line for name in wrong)
    assert "Input should" not in line


def test_the_service_reports_all_settings_that_prevent_fetching_keys_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VERIFIER_ISSUER", "htp:x")
    monkeypatch.setenv("VERIFIER_CA_FILE", "/nonexistent")
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert "VERIFIER_ISSUER: " in str(ended.value)
    assert "VERIFIER_CA_FILE: " in str(ended.value)
