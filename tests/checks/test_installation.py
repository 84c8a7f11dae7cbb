"""`issuer check` finds each misconfiguration that this project can have, says what fixes it, and changes nothing.

Most tests break one thing of a sound deployment, run the printed fix, and check again."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.installation import PASSPHRASE, Deployment
from typer.testing import CliRunner

from issuer.checks.finding import Severity
from issuer.cli.commands import app


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all files below a folder with mode and content; not SQLite's own, which come and go."""
    paths = [path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in paths}


def test_nothing_is_made_where_nothing_is(empty: Deployment) -> None:
    assert {result.name for result in empty.check()} == {"settings", "key directory", "database"}
    assert list(empty.folder.iterdir()) == []


def test_nothing_is_changed_where_an_issuer_ran(deployment: Deployment) -> None:
    deployment.keys.chmod(0o750)
    (deployment.keys / "stray").write_text("")
    before = everything(deployment.folder)
    assert len(deployment.found()) >= 2
    assert everything(deployment.folder) == before


def test_tables_are_not_made_in_an_empty_database(empty: Deployment) -> None:
    with closing(sqlite3.connect(empty.folder / "issuer.db")):
        pass
    (empty.folder / "issuer.db").chmod(0o600)
    assert "no tables yet" in empty.one(Severity.WARNING).wrong
    assert (empty.folder / "issuer.db").stat().st_size == 0


NO_NAME = "n" * 300
"""Longer than any file system takes: the system refuses to look, as it does where rights are missing."""


@pytest.mark.parametrize(
    "settings",
    [
        {"ISSUER_KEYS": NO_NAME},
        {"ISSUER_DATABASE_URL": f"sqlite:///{NO_NAME}"},
        {"ISSUER_KEYS": "pkcs11", "ISSUER_PKCS11_TOKEN": "issuer", "ISSUER_PKCS11_MODULE": NO_NAME},
    ],
    ids=lambda settings: list(settings)[-1],
)
def test_a_path_that_the_system_refuses_is_a_problem_of_its_setting(
    empty: Deployment, settings: dict[str, str]
) -> None:
    empty.set(**settings)
    problems = [each for each in empty.found() if each.severity is Severity.PROBLEM]
    name, value = list(settings.items())[-1]
    assert any(name in each.wrong or value in each.wrong for each in problems), problems


def test_a_sound_check_has_a_mark_and_scripts_get_json(deployment: Deployment) -> None:
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        *(
            f"✓ {name}"
            for name in (
                "settings: from the environment",
                "key directory",
                "database",
                "clients",
                "key ring",
                "audit",
                "private keys",
            )
        ),
        "no problems found",
    ]
    document = json.loads(CliRunner().invoke(app, ["check", "--json"]).output)
    assert (document["problems"], document["warnings"], len(document["checks"])) == (0, 0, 7)


def test_the_fixing_command_is_alone_on_its_line_and_a_problem_is_exit_1(deployment: Deployment) -> None:
    deployment.keys.chmod(0o750)
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert "    chmod 700 keys" in done.output.splitlines()
    document = json.loads(CliRunner().invoke(app, ["check", "--json"]).output)
    findings = [finding for each in document["checks"] for finding in each["findings"]]
    assert {"severity", "wrong", "fix"} == findings[0].keys()
    assert PASSPHRASE not in done.output


def test_a_warning_alone_is_exit_0(deployment: Deployment) -> None:
    deployment.set(ISSUER_ROTATION_PERIOD="0")
    done = CliRunner().invoke(app, ["check"])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "1 warning")
