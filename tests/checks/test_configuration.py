"""Checks of settings: each wrong value, contradiction and doubtful choice is a finding with its fix."""

import os
from datetime import timedelta

import pytest
from support.installation import PASSPHRASE, REACHABLE, Deployment

from issuer.checks.finding import Severity
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings
from issuer.wiring import build


@pytest.mark.parametrize(
    ("name", "value", "fix_line"),
    [
        ("ISSUER_JWKS_MAX_AGE", "five minutes", "ISSUER_JWKS_MAX_AGE=5m"),
        ("ISSUER_STANDBY_KEYS", "0", "ISSUER_STANDBY_KEYS=1"),
        ("ISSUER_ALGORITHM", "HS256", "ISSUER_ALGORITHM=RS256"),
        ("ISSUER_REGISTRATION", "maybe", "ISSUER_REGISTRATION=open"),
        ("ISSUER_URL", "http://127.0.0.1:8000/", "ISSUER_URL=http://127.0.0.1:8000"),
        ("ISSUER_URL", "http://me:secret@127.0.0.1:8000?x=1", "ISSUER_URL=http://127.0.0.1:8000"),
        ("ISSUER_URL", "127.0.0.1:8000", "ISSUER_URL=https://issuer.example"),
        ("ISSUER_CORS_ORIGINS", "*", "ISSUER_CORS_ORIGINS=https://app.example"),
        (
            "ISSUER_CORS_ORIGINS",
            "https://a.example/app, https://b.example/",
            "ISSUER_CORS_ORIGINS=https://a.example,https://b.example",
        ),
        ("ISSUER_TRUSTED_PROXIES", "the proxy", "ISSUER_TRUSTED_PROXIES=127.0.0.1"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_one_that_can(
    empty: Deployment, name: str, value: str, fix_line: str
) -> None:
    empty.set(**{name: value})
    finding = empty.one()
    assert finding.wrong.startswith(f"{name}: ")
    assert finding.fix.line == fix_line
    empty.apply(fix_line)
    load_settings()


def test_a_short_metrics_token_is_replaced(empty: Deployment) -> None:
    (empty.folder / ".env").write_text("ISSUER_METRICS_TOKEN=short\n")
    (empty.folder / ".env").chmod(0o600)
    empty.apply(empty.one().fix.line)
    assert load_settings().metrics_token


def test_each_wrong_setting_is_a_finding_of_its_own(empty: Deployment) -> None:
    empty.set(ISSUER_STANDBY_KEYS="0", ISSUER_CLOCK_SKEW="-1", ISSUER_CLOCK_SCEW="1s")
    assert [finding.severity for finding in empty.found()].count(Severity.PROBLEM) == 2
    assert len(empty.found()) == 3


@pytest.mark.parametrize(
    ("name", "value", "fix_line"),
    [
        ("ISSUER_PUBLISH_LEAD", "1m", "ISSUER_PUBLISH_LEAD=6m"),
        ("ISSUER_ROTATION_PERIOD", "1h", "ISSUER_ROTATION_PERIOD=1d"),
        ("ISSUER_OUTAGE_LIMIT", "10s", "ISSUER_OUTAGE_LIMIT=30s"),
        ("ISSUER_NODE_TIMEOUT", "1s", "ISSUER_NODE_TIMEOUT=2s"),
    ],
)
def test_settings_that_contradict_each_other_are_shown_with_the_arithmetic(
    deployment: Deployment, name: str, value: str, fix_line: str
) -> None:
    deployment.set(**{name: value})
    finding = deployment.one()
    assert finding.wrong.startswith(f"{name} is {value} but must be")
    assert finding.fix.line == fix_line
    deployment.require_fixed(finding)


def test_a_misspelt_setting_is_renamed_in_its_file_or_unset(deployment: Deployment) -> None:
    env = deployment.folder / ".env"
    env.write_text("ISSUER_PUBLISH_LEED=2d\n")
    finding = deployment.one(Severity.WARNING)
    assert "did you mean ISSUER_PUBLISH_LEAD?" in finding.wrong
    deployment.require_fixed(finding)
    assert load_settings().publish_lead == timedelta(days=2)
    env.write_text("ISSUER_NONSENSE=1\n")
    deployment.require_fixed(deployment.one(Severity.WARNING))
    deployment.set(ISSUER_AUDIANCE="x")
    assert deployment.one(Severity.WARNING).fix.line == "unset ISSUER_AUDIANCE"


def test_an_env_file_with_a_secret_is_for_its_owner_only(deployment: Deployment) -> None:
    deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (deployment.folder / ".env").write_text(f"ISSUER_KEYS_PASSPHRASE={PASSPHRASE}\n")
    (deployment.folder / ".env").chmod(0o644)
    finding = deployment.one()
    assert "which holds ISSUER_KEYS_PASSPHRASE" in finding.wrong
    assert PASSPHRASE not in finding.wrong
    deployment.require_fixed(finding)


def test_an_env_file_that_is_no_text_is_reported(empty: Deployment) -> None:
    (empty.folder / ".env").write_bytes(b"\xff\xfe")
    assert ".env is not UTF-8" in empty.one().wrong


@pytest.mark.parametrize(
    ("change", "says", "fix_line"),
    [
        ({"ISSUER_URL": "http://issuer.example"}, "plain http", "ISSUER_URL=https://issuer.example"),
        (
            {"ISSUER_TRUSTED_PROXIES": ""},
            "ISSUER_TRUSTED_PROXIES is empty",
            "ISSUER_TRUSTED_PROXIES=127.0.0.1",
        ),
        (
            {"ISSUER_URL": "https://issuer.example/auth"},
            "the path /auth",
            "ISSUER_URL=https://issuer.example",
        ),
        ({"ISSUER_REGISTRATION": "open"}, "anyone may create", "ISSUER_REGISTRATION=closed"),
        ({"ISSUER_ROTATION_PERIOD": "0"}, "only rotated manually", "ISSUER_ROTATION_PERIOD=30d"),
        (
            {"ISSUER_AUDIENCE": "https://issuer.example"},
            "every service",
            "ISSUER_AUDIENCE=https://api.example",
        ),
    ],
)
def test_settings_that_start_but_may_be_mistakes_are_warnings(
    deployment: Deployment, change: dict[str, str], says: str, fix_line: str
) -> None:
    deployment.set(**{**REACHABLE, **change})
    finding = deployment.one(Severity.WARNING)
    assert says in finding.wrong
    assert finding.fix.line == fix_line
    deployment.require_fixed(finding)


def test_metrics_without_a_token_are_a_warning(deployment: Deployment) -> None:
    deployment.set(**{name: value for name, value in REACHABLE.items() if name != "ISSUER_METRICS_TOKEN"})
    assert "/metrics refuses every request" in deployment.one(Severity.WARNING).wrong
    deployment.apply(deployment.one(Severity.WARNING).fix.line)
    (deployment.folder / ".env").chmod(0o600)
    assert deployment.found() == []


def test_check_and_a_start_report_the_same_errors_of_settings(empty: Deployment) -> None:
    empty.set(ISSUER_PUBLISH_LEAD="1m")
    with pytest.raises(BadSettings) as refusal:
        build(load_settings())
    assert str(refusal.value) == next(each.wrong for each in empty.found())


def test_all_that_is_wrong_with_settings_is_a_finding_with_a_fix_of_its_own(empty: Deployment) -> None:
    empty.set(ISSUER_STANDBY_KEYS="99", ISSUER_DATABASE_URL="mysql://x", ISSUER_PUBLISH_LEAD="1s")
    empty.set(ISSUER_CA_FILE="/nonexistent")
    names = ["ISSUER_DATABASE_URL", "ISSUER_STANDBY_KEYS", "ISSUER_PUBLISH_LEAD", "ISSUER_CA_FILE"]
    found = empty.found()
    assert [each.fix.line.partition("=")[0] for each in found] == names
    for each in found[:-1]:
        empty.apply(each.fix.line.replace("postgresql://USER:PASSWORD@HOST:5432/DATABASE", "sqlite:///a.db"))
    (last,) = [each for each in empty.found() if each.severity is Severity.PROBLEM]
    assert "ISSUER_CA_FILE" in last.wrong


@pytest.mark.parametrize("name", ["ISSUER_CA_FILE", "ISSUER_KEYS_PASSPHRASE_FILE"])
def test_a_file_of_a_setting_that_is_a_pipe_is_reported_without_waiting_for_it(
    empty: Deployment, name: str
) -> None:
    os.mkfifo("pipe")
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    empty.set(**{name: "pipe"})
    assert [each.wrong for each in empty.found() if "pipe" in each.wrong and "no" in each.wrong]


@pytest.mark.parametrize("origin", ["https://[::1", "https://app.example:port", "://", "https://a b"])
def test_a_malformed_origin_is_reported_with_one_that_can_be_read(empty: Deployment, origin: str) -> None:
    empty.set(ISSUER_CORS_ORIGINS=f"https://good.example,{origin}")
    finding = empty.one()
    assert finding.wrong.startswith("ISSUER_CORS_ORIGINS: ")
    assert "https://good.example" in finding.fix.line
    empty.apply(finding.fix.line)
    assert not any(each.severity is Severity.PROBLEM for each in empty.found())
