"""Every fix that is printed works: each kind is broken for, its line is run as it stands, and all is looked at again.

A kind of fix without a scenario here fails. Words in capitals are filled in first, as an operator would.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.fix_scenarios import clients, database, key_directory, key_ring, passphrase, pkcs11, settings
from support.fix_scenarios.stage import SCENARIOS, Stage
from support.installation import SETTINGS, Deployment

from issuer.checks.finding import Severity
from issuer.fixes import Kind, assignment
from issuer.settings.env_file import read_env_file

SCENARIO_MODULES = (settings, passphrase, key_directory, pkcs11, database, key_ring, clients)
"""Importing them fills SCENARIOS."""


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """An installation in a folder whose name means something to a shell, in a pattern and in a URL."""
    folder = tmp_path / 'it\'s a [folder] of $HOME? "100%"'
    folder.mkdir(mode=0o700)
    monkeypatch.chdir(folder)
    deployment = Deployment(folder, monkeypatch)
    deployment.set(**SETTINGS)
    return deployment


@pytest.mark.parametrize(
    "value", ["plain", "two words", "it's", "o'clock at (noon)", "a#b", "a;b", "$x", '"a"']
)
def test_a_printed_setting_is_the_same_to_a_shell_and_in_the_file(value: str) -> None:
    line = assignment("ISSUER_KEYS", value)
    output = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$ISSUER_KEYS"'], capture_output=True, check=True
    ).stdout
    assert output.decode() == value
    Path(".env").write_text(f"{line}\n")
    Path(".env").chmod(0o600)
    file = read_env_file()
    assert file is not None
    assert [each.value for each in file.assignments] == [value]


ELSEWHERE = {
    Kind.DATABASE_POOLER: "database/test_postgresql_sessions.py"
    "::test_time_limits_that_a_pooler_drops_are_missed_until_the_printed_line_sets_them"
}
"""Tests of fixes that need more than an installation."""


@pytest.mark.parametrize("name", ["ISSUER_KEYS", "ISSUER_KEYS_PASSPHRASE_FILE", "ISSUER_DATABASE_URL"])
@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/proc/self/mem", "/"])
def test_no_fix_changes_files_of_the_system(deployment: Deployment, name: str, path: str) -> None:
    deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    deployment.set(**{name: f"sqlite:///{path}" if name == "ISSUER_DATABASE_URL" else path})
    fixes = "\n".join(finding.fix.line for finding in deployment.found())
    assert not re.search(rf"(mv|chmod|chown|mkdir|install|>).* {path}( |$)", fixes, re.MULTILINE), fixes


def test_fixes_tested_elsewhere_are() -> None:
    for name in ELSEWHERE.values():
        file, _, function = name.partition("::")
        assert f"def {function}(" in (Path(__file__).parents[1] / file).read_text("utf-8")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ELSEWHERE])
def test_the_printed_fix_clears_its_finding(
    kind: Kind, deployment: Deployment, request: pytest.FixtureRequest
) -> None:
    assert kind in SCENARIOS, f"nothing here breaks an installation so that this is printed: {kind}"
    assert deployment.found() == []
    stage = Stage(deployment, request)
    SCENARIOS[kind](stage)
    before = deployment.found()
    fixes = list(dict.fromkeys(finding.fix for finding in before if finding.fix.kind is kind))
    assert fixes, before
    for fix in fixes:
        for line in fix.line.split("\n"):
            deployment.apply(filled(line, stage.fills), must_work=fix.clears)
    stage.then()
    after = deployment.found()
    if fixes[0].clears:
        assert kind not in {finding.fix.kind for finding in after}
    new = {finding.fix.kind for finding in after if finding.severity is Severity.PROBLEM}
    assert new <= {finding.fix.kind for finding in before}, after


def filled(line: str, fills: Mapping[str, str]) -> str:
    for name, value in fills.items():
        line = line.replace(name, value)
    return line
