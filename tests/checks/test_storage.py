"""Checks of the database: its URL, schema, permissions, disk and hosts."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.components import require_root
from support.installation import Deployment
from support.postgresql import new_database

from issuer.checks.finding import Severity
from issuer.clock import system_clock
from issuer.database.database import SCHEMA, Database
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.settings.loading import load_settings


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("sqlite://", "sqlite:///issuer.db"),
        ("nonsense", "sqlite:///issuer.db"),
        ("mysql://host/name", "postgresql://USER:PASSWORD@HOST:5432/DATABASE"),
        ("postgresql://u:p@ss@db.example/x", "postgresql://USER:PASSWORD@HOST:5432/DATABASE"),
        ("postgresql//db.example/x", "postgresql://USER:PASSWORD@HOST:5432/DATABASE"),
    ],
)
def test_a_bad_database_url_is_reported_with_a_template_of_its_kind(
    empty: Deployment, url: str, form: str
) -> None:
    empty.set(ISSUER_DATABASE_URL=url)
    assert empty.one().fix.line == f"ISSUER_DATABASE_URL={form}"


def test_a_database_that_does_not_answer_is_reported_without_its_password(empty: Deployment) -> None:
    empty.set(ISSUER_DATABASE_URL="postgresql://me:hidden@127.0.0.1:1/name")
    finding = empty.one()
    assert finding.fix.line == "psql --dbname=postgresql://me@127.0.0.1:1/name -c 'SELECT 1'"
    assert "hidden" not in finding.wrong


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_database_that_was_lost_is_no_new_one_and_the_printed_line_brings_its_ring_back(
    deployment: Deployment, left: str
) -> None:
    (deployment.folder / "issuer.db").unlink()
    if left == "an empty file":
        (deployment.folder / "issuer.db").touch(mode=0o600)
    finding = deployment.one()
    assert "there is no key ring in the database, and the checkpoint" in finding.wrong
    deployment.apply(finding.fix.line.replace("TEXT", "'the disk was replaced'"))
    assert deployment.found() == []


def test_a_file_that_is_no_database_is_reported(empty: Deployment) -> None:
    (empty.folder / "issuer.db").write_text("this is no database" * 100)
    (empty.folder / "issuer.db").chmod(0o600)
    assert "PRAGMA integrity_check" in empty.one().fix.line


def test_a_database_of_a_newer_version_is_reported(deployment: Deployment) -> None:
    deployment.change("UPDATE issuer_schema_version SET version_num = '9999'")
    finding = deployment.one()
    assert "newer version" in finding.wrong
    assert finding.fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_a_database_of_an_older_version_is_to_be_backed_up_before_the_next_start(
    deployment: Deployment,
) -> None:
    deployment.change("UPDATE issuer_schema_version SET version_num = '0000'")
    finding = deployment.one(Severity.WARNING)
    assert f"is at revision 0000, and the next start migrates it to {SCHEMA}" in finding.wrong
    deployment.apply(finding.fix.line)
    assert (deployment.folder / "BACKUP").exists()


def test_a_postgresql_database_must_be_encoded_in_utf_8(empty: Deployment, postgresql: str) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql, "ENCODING 'SQL_ASCII' TEMPLATE template0"))
    finding = empty.one()
    assert "SQL_ASCII" in finding.wrong
    assert finding.fix.line.startswith("createdb --encoding=UTF8")
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql), ISSUER_KEYS="database")
    assert "no tables yet" in empty.one(Severity.WARNING).wrong
    empty.make()
    assert empty.found() == []


def test_a_database_file_that_others_may_read_is_reported(deployment: Deployment) -> None:
    (deployment.folder / "issuer.db").chmod(0o644)
    deployment.require_fixed(deployment.one())


def test_a_folder_in_which_others_may_write_is_reported(deployment: Deployment) -> None:
    deployment.folder.chmod(0o777)
    deployment.require_fixed(deployment.one(Severity.WARNING))


def test_a_folder_in_which_sqlite_cannot_write_is_reported(deployment: Deployment) -> None:
    if os.geteuid() == 0:
        deployment.patch.setattr(os, "access", lambda path, _: Path(path) != deployment.folder.absolute())
    deployment.folder.chmod(0o500)
    finding = next(each for each in deployment.found() if each.severity is Severity.PROBLEM)
    deployment.folder.chmod(0o700)
    assert finding.fix.line == f"chmod u+wx {deployment.folder}"


def test_a_database_of_another_owner_is_reported(deployment: Deployment) -> None:
    require_root()
    os.chown(deployment.folder / "issuer.db", 65534, 65534)
    deployment.require_fixed(deployment.one())


def test_a_disk_that_is_nearly_full_is_reported(deployment: Deployment) -> None:
    full = SimpleNamespace(total=1024**4, used=0, free=100 * 1024**2)
    deployment.patch.setattr(shutil, "disk_usage", lambda _: full)
    findings = deployment.found()
    assert {each.severity for each in findings} == {Severity.WARNING}
    assert all("100 MiB" in each.wrong and each.fix.line.startswith("df -h ") for each in findings)


def beat(deployment: Deployment, name: str) -> None:
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value())
    now = system_clock()
    HeartbeatStore(database).beat(Heartbeat.of(name, name, 1, settings.policy(), now), now)
    database.close()


def test_sqlite_is_not_for_several_hosts(deployment: Deployment) -> None:
    for name in ("one/7", "one/8"):
        beat(deployment, name)
    assert deployment.found() == []
    beat(deployment, "two/7")
    assert "issuers run on one, two with one SQLite file" in deployment.one().wrong


def test_a_folder_in_which_no_database_can_be_made_is_reported(empty: Deployment) -> None:
    empty.set(ISSUER_DATABASE_URL="sqlite:///nowhere/issuer.db")
    finding = empty.one()
    assert "/nowhere is not a writable folder" in finding.wrong


def test_only_files_of_the_database_itself_have_rights_to_look_at(empty: Deployment) -> None:
    name = "is[s]uer*.db"
    empty.set(ISSUER_DATABASE_URL=f"sqlite:///{name}")
    empty.make()
    (empty.folder / "issuer1.db").touch(mode=0o644)
    assert empty.found() == []
    (empty.folder / name).chmod(0o644)
    assert "is[s]uer*.db" in empty.one().wrong
    empty.require_fixed(empty.one())
