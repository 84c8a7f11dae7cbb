"""Checks of the passphrase: no fix removes one that opens a key."""

import pytest
from support.installation import PASSPHRASE, REACHABLE, Deployment

from issuer.checks.finding import Severity
from issuer.settings.loading import load_settings


def test_a_reachable_issuer_needs_a_passphrase(empty: Deployment) -> None:
    empty.set(**REACHABLE)
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    finding = next(each for each in empty.found() if each.severity is Severity.PROBLEM)
    assert "private keys must be encrypted" in finding.wrong
    empty.apply(finding.fix.line)
    assert {each.severity for each in empty.found()} == {Severity.WARNING}  # no database yet
    assert load_settings().passphrase()


def test_a_wrong_passphrase_is_reported_for_each_key(deployment: Deployment) -> None:
    deployment.set(ISSUER_KEYS_PASSPHRASE="seventeen silent penguins")
    findings = deployment.found()
    assert len(findings) == 2
    assert all("wrong ISSUER_KEYS_PASSPHRASE" in each.wrong for each in findings)
    assert {each.fix.line for each in findings} == {"ISSUER_KEYS_PASSPHRASE_FILE=FILE"}


def test_a_passphrase_set_twice_is_removed_from_the_environment(deployment: Deployment) -> None:
    (deployment.folder / "passphrase").write_text(PASSPHRASE)
    (deployment.folder / "passphrase").chmod(0o600)
    deployment.set(
        ISSUER_KEYS_PASSPHRASE_FILE="passphrase", ISSUER_KEYS_PASSPHRASE="another that opens nothing"
    )
    finding = deployment.one()
    assert (finding.fix.line, "not both" in finding.wrong) == ("unset ISSUER_KEYS_PASSPHRASE", True)
    deployment.require_fixed(finding)


@pytest.mark.parametrize("content", ["another that opens nothing", "", None])
def test_of_two_passphrases_the_one_that_opens_the_keys_is_never_taken_out(
    deployment: Deployment, content: str | None
) -> None:
    if content is not None:
        (deployment.folder / "other").write_text(content)
        (deployment.folder / "other").chmod(0o600)
    deployment.set(ISSUER_KEYS_PASSPHRASE_FILE="other")
    finding = next(each for each in deployment.found() if each.severity is Severity.PROBLEM)
    assert finding.fix.line == "unset ISSUER_KEYS_PASSPHRASE_FILE"
    deployment.require_fixed(finding)


@pytest.mark.parametrize("content", [None, ""])
def test_a_passphrase_file_that_is_missing_or_empty_is_made(empty: Deployment, content: str | None) -> None:
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (empty.folder / ".env").write_text("ISSUER_KEYS_PASSPHRASE_FILE=passphrase\n")
    if content is not None:
        (empty.folder / "passphrase").write_text(content)
        (empty.folder / "passphrase").chmod(0o600)
    finding = next(each for each in empty.found() if each.severity is Severity.PROBLEM)
    empty.apply(finding.fix.line)
    assert load_settings().passphrase()


def test_a_passphrase_file_that_others_may_read_is_reported(deployment: Deployment) -> None:
    deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (deployment.folder / "passphrase").write_text(PASSPHRASE)
    (deployment.folder / "passphrase").chmod(0o644)
    deployment.set(ISSUER_KEYS_PASSPHRASE_FILE="passphrase")
    deployment.require_fixed(deployment.one(Severity.WARNING))
