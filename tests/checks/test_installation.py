"""`issuer check` finds each misconfiguration that this project can have, says what fixes it, and changes nothing.

Most tests break one thing of an installation that is well, mend it by the line that is printed, and look again.
"""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.defaults import MovableClock
from support.installation import PASSPHRASE, REACHABLE, Site, empty, installed, site
from support.postgresql import new_database
from typer.testing import CliRunner

from issuer.checks import storage
from issuer.checks.finding import Severity
from issuer.checks.installation import look
from issuer.cli.commands import app
from issuer.clock import system_clock
from issuer.database.database import SCHEMA, Database
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.store import RingStore
from issuer.settings.settings import BadSettings, load_settings
from issuer.signing.pem_directory import NOTE
from issuer.wiring import build

__all__ = ["empty", "installed", "site"]  # fixtures


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all files below a folder with mode and content; not SQLite's own, which come and go."""
    paths = [path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in paths}


# It changes nothing


def test_nothing_is_made_where_nothing_is(empty: Site) -> None:
    assert {looked.at for looked in empty.look()} == {"settings", "key directory", "database"}
    assert list(empty.folder.iterdir()) == []


def test_nothing_is_changed_where_an_issuer_ran(site: Site) -> None:
    site.keys.chmod(0o750)
    (site.keys / "stray").write_text("")
    before = everything(site.folder)
    assert len(site.found()) >= 2
    assert everything(site.folder) == before


def test_tables_are_not_made_in_an_empty_database(empty: Site) -> None:
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
    empty: Site, settings: dict[str, str]
) -> None:
    empty.set(**settings)
    problems = [each for each in empty.found() if each.severity is Severity.PROBLEM]
    name, value = list(settings.items())[-1]
    assert any(name in each.wrong or value in each.wrong for each in problems), problems


# As people and scripts see it


def test_what_is_well_has_a_mark_and_a_script_gets_json(site: Site) -> None:
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        *(
            f"✓ {name}"
            for name in (
                "settings: from the environment",
                "key directory",
                "database",
                "key ring",
                "audit",
                "private keys",
            )
        ),
        "no problems found",
    ]
    document = json.loads(CliRunner().invoke(app, ["check", "--json"]).output)
    assert (document["problems"], document["warnings"], len(document["checks"])) == (0, 0, 6)


def test_the_mending_command_is_alone_on_its_line_and_a_problem_is_exit_1(site: Site) -> None:
    site.keys.chmod(0o750)
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert "    chmod 700 keys" in done.output.splitlines()
    document = json.loads(CliRunner().invoke(app, ["check", "--json"]).output)
    findings = [finding for each in document["checks"] for finding in each["findings"]]
    assert {"severity", "wrong", "fix"} == findings[0].keys()
    assert PASSPHRASE not in done.output


def test_a_warning_alone_is_exit_0(site: Site) -> None:
    site.set(ISSUER_ROTATION_PERIOD="0")
    done = CliRunner().invoke(app, ["check"])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "1 warning")


# Settings


@pytest.mark.parametrize(
    ("name", "value", "mend"),
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
    empty: Site, name: str, value: str, mend: str
) -> None:
    empty.set(**{name: value})
    finding = empty.one()
    assert finding.wrong.startswith(f"{name}: ")
    assert finding.fix.line == mend
    empty.apply(mend)
    load_settings()


def test_a_short_metrics_token_is_made_anew(empty: Site) -> None:
    (empty.folder / ".env").write_text("ISSUER_METRICS_TOKEN=short\n")
    (empty.folder / ".env").chmod(0o600)
    empty.apply(empty.one().fix.line)
    assert load_settings().metrics_token


def test_each_wrong_setting_is_a_finding_of_its_own(empty: Site) -> None:
    empty.set(ISSUER_STANDBY_KEYS="0", ISSUER_CLOCK_SKEW="-1", ISSUER_CLOCK_SCEW="1s")
    assert [finding.severity for finding in empty.found()].count(Severity.PROBLEM) == 2
    assert len(empty.found()) == 3


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("ISSUER_PUBLISH_LEAD", "1m", "ISSUER_PUBLISH_LEAD=6m"),
        ("ISSUER_ROTATION_PERIOD", "1h", "ISSUER_ROTATION_PERIOD=1d"),
        ("ISSUER_OUTAGE_LIMIT", "10s", "ISSUER_OUTAGE_LIMIT=30s"),
        ("ISSUER_NODE_TIMEOUT", "1s", "ISSUER_NODE_TIMEOUT=2s"),
    ],
)
def test_settings_that_contradict_each_other_are_shown_with_the_arithmetic(
    site: Site, name: str, value: str, mend: str
) -> None:
    site.set(**{name: value})
    finding = site.one()
    assert finding.wrong.startswith(f"{name} is {value} but must be")
    assert finding.fix.line == mend
    site.require_fixed(finding)


def test_a_misspelt_setting_is_renamed_in_its_file_or_unset(site: Site) -> None:
    env = site.folder / ".env"
    env.write_text("ISSUER_PUBLISH_LEED=2d\n")
    finding = site.one(Severity.WARNING)
    assert "did you mean ISSUER_PUBLISH_LEAD?" in finding.wrong
    site.require_fixed(finding)
    assert load_settings().publish_lead == timedelta(days=2)
    env.write_text("ISSUER_NONSENSE=1\n")
    site.require_fixed(site.one(Severity.WARNING))
    site.set(ISSUER_AUDIANCE="x")
    assert site.one(Severity.WARNING).fix.line == "unset ISSUER_AUDIANCE"


def test_an_env_file_with_a_secret_is_for_its_owner_only(site: Site) -> None:
    site.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (site.folder / ".env").write_text(f"ISSUER_KEYS_PASSPHRASE={PASSPHRASE}\n")
    (site.folder / ".env").chmod(0o644)
    finding = site.one()
    assert "which holds ISSUER_KEYS_PASSPHRASE" in finding.wrong
    assert PASSPHRASE not in finding.wrong
    site.require_fixed(finding)


def test_an_env_file_that_is_no_text_is_told(empty: Site) -> None:
    (empty.folder / ".env").write_bytes(b"\xff\xfe")
    assert ".env is not UTF-8" in empty.one().wrong


# The passphrase


def test_a_reachable_issuer_needs_a_passphrase(empty: Site) -> None:
    empty.set(**REACHABLE)
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    finding = next(each for each in empty.found() if each.severity is Severity.PROBLEM)
    assert "private keys must be encrypted" in finding.wrong
    empty.apply(finding.fix.line)
    assert {each.severity for each in empty.found()} == {Severity.WARNING}  # no database yet
    assert load_settings().passphrase()


def test_a_wrong_passphrase_is_told_for_each_key(site: Site) -> None:
    site.set(ISSUER_KEYS_PASSPHRASE="seventeen silent penguins")
    findings = site.found()
    assert len(findings) == 2
    assert all("wrong ISSUER_KEYS_PASSPHRASE" in each.wrong for each in findings)
    assert {each.fix.line for each in findings} == {"ISSUER_KEYS_PASSPHRASE_FILE=FILE"}


def test_a_passphrase_given_twice_is_taken_out_of_the_environment(site: Site) -> None:
    (site.folder / "passphrase").write_text(PASSPHRASE)
    (site.folder / "passphrase").chmod(0o600)
    site.set(ISSUER_KEYS_PASSPHRASE_FILE="passphrase", ISSUER_KEYS_PASSPHRASE="another that opens nothing")
    finding = site.one()
    assert (finding.fix.line, "not both" in finding.wrong) == ("unset ISSUER_KEYS_PASSPHRASE", True)
    site.require_fixed(finding)


@pytest.mark.parametrize("content", ["another that opens nothing", "", None])
def test_of_two_passphrases_the_one_that_opens_the_keys_is_never_taken_out(
    site: Site, content: str | None
) -> None:
    if content is not None:
        (site.folder / "other").write_text(content)
        (site.folder / "other").chmod(0o600)
    site.set(ISSUER_KEYS_PASSPHRASE_FILE="other")
    finding = next(each for each in site.found() if each.severity is Severity.PROBLEM)
    assert finding.fix.line == "unset ISSUER_KEYS_PASSPHRASE_FILE"
    site.require_fixed(finding)


@pytest.mark.parametrize("content", [None, ""])
def test_a_passphrase_file_that_is_missing_or_empty_is_made(empty: Site, content: str | None) -> None:
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (empty.folder / ".env").write_text("ISSUER_KEYS_PASSPHRASE_FILE=passphrase\n")
    if content is not None:
        (empty.folder / "passphrase").write_text(content)
        (empty.folder / "passphrase").chmod(0o600)
    finding = next(each for each in empty.found() if each.severity is Severity.PROBLEM)
    empty.apply(finding.fix.line)
    assert load_settings().passphrase()


def test_a_passphrase_file_that_others_may_read_is_told(site: Site) -> None:
    site.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    (site.folder / "passphrase").write_text(PASSPHRASE)
    (site.folder / "passphrase").chmod(0o644)
    site.set(ISSUER_KEYS_PASSPHRASE_FILE="passphrase")
    site.require_fixed(site.one(Severity.WARNING))


# Where others can reach the issuer


@pytest.mark.parametrize(
    ("change", "says", "mend"),
    [
        ({"ISSUER_URL": "http://issuer.example"}, "plain http", "ISSUER_URL=https://issuer.example"),
        ({"ISSUER_TRUSTED_PROXIES": ""}, "names none", "ISSUER_TRUSTED_PROXIES=127.0.0.1"),
        (
            {"ISSUER_URL": "https://issuer.example/auth"},
            "the path /auth",
            "ISSUER_URL=https://issuer.example",
        ),
        ({"ISSUER_REGISTRATION": "open"}, "anybody may create", "ISSUER_REGISTRATION=closed"),
        ({"ISSUER_ROTATION_PERIOD": "0"}, "only when an operator", "ISSUER_ROTATION_PERIOD=30d"),
        (
            {"ISSUER_AUDIENCE": "https://issuer.example"},
            "every service",
            "ISSUER_AUDIENCE=https://api.example",
        ),
    ],
)
def test_what_starts_and_is_perhaps_not_meant_is_a_warning(
    site: Site, change: dict[str, str], says: str, mend: str
) -> None:
    site.set(**{**REACHABLE, **change})
    finding = site.one(Severity.WARNING)
    assert says in finding.wrong
    assert finding.fix.line == mend
    site.require_fixed(finding)


def test_metrics_that_nobody_may_read_are_a_warning(site: Site) -> None:
    site.set(**{name: value for name, value in REACHABLE.items() if name != "ISSUER_METRICS_TOKEN"})
    assert "/metrics refuses everybody" in site.one(Severity.WARNING).wrong
    site.apply(site.one(Severity.WARNING).fix.line)
    (site.folder / ".env").chmod(0o600)
    assert site.found() == []


# The database


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
def test_a_database_that_is_none_is_told_with_the_form_of_the_kind_that_was_meant(
    empty: Site, url: str, form: str
) -> None:
    empty.set(ISSUER_DATABASE_URL=url)
    assert empty.one().fix.line == f"ISSUER_DATABASE_URL={form}"


def test_a_database_that_does_not_answer_is_told_without_its_password(empty: Site) -> None:
    empty.set(ISSUER_DATABASE_URL="postgresql://me:hidden@127.0.0.1:1/name")
    finding = empty.one()
    assert finding.fix.line == "psql --dbname=postgresql://me@127.0.0.1:1/name -c 'SELECT 1'"
    assert "hidden" not in finding.wrong


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_database_that_was_lost_is_no_new_one_and_the_printed_line_brings_its_ring_back(
    site: Site, left: str
) -> None:
    (site.folder / "issuer.db").unlink()
    if left == "an empty file":
        (site.folder / "issuer.db").touch(mode=0o600)
    finding = site.one()
    assert "there is no key ring in the database, and the note" in finding.wrong
    site.apply(finding.fix.line.replace("TEXT", "'the disk was replaced'"))
    assert site.found() == []


def test_private_keys_without_note_and_database_are_told_before_a_start_refuses_them(site: Site) -> None:
    (site.folder / "issuer.db").unlink()
    (site.keys / NOTE).unlink()
    finding = site.one()
    assert "there are 2 private keys but no key ring in the database" in finding.wrong


def test_a_file_that_is_no_database_is_told(empty: Site) -> None:
    (empty.folder / "issuer.db").write_text("this is no database" * 100)
    (empty.folder / "issuer.db").chmod(0o600)
    assert "PRAGMA integrity_check" in empty.one().fix.line


def test_a_database_of_a_newer_version_is_told(site: Site) -> None:
    site.change("UPDATE issuer_schema_version SET version_num = '9999'")
    finding = site.one()
    assert "newer version" in finding.wrong
    assert finding.fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_a_database_of_an_older_version_is_to_be_backed_up_before_the_next_start(site: Site) -> None:
    site.change("UPDATE issuer_schema_version SET version_num = '0000'")
    finding = site.one(Severity.WARNING)
    assert f"is at revision 0000, and the next start brings it to {SCHEMA}" in finding.wrong
    site.apply(finding.fix.line)
    assert (site.folder / "BACKUP").exists()


def test_a_postgresql_of_another_encoding_is_told_and_one_of_the_right_one_is_well(
    empty: Site, postgresql: str
) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql, "ENCODING 'SQL_ASCII' TEMPLATE template0"))
    finding = empty.one()
    assert "SQL_ASCII" in finding.wrong
    assert finding.fix.line.startswith("createdb --encoding=UTF8")
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql), ISSUER_KEYS="database")
    assert "no tables yet" in empty.one(Severity.WARNING).wrong
    empty.make()
    assert empty.found() == []


def test_a_database_file_that_others_may_read_is_told(site: Site) -> None:
    (site.folder / "issuer.db").chmod(0o644)
    site.require_fixed(site.one())


def test_a_folder_in_which_others_may_write_is_told(site: Site) -> None:
    site.folder.chmod(0o777)
    site.require_fixed(site.one(Severity.WARNING))


def test_a_folder_in_which_sqlite_cannot_write_is_told(site: Site) -> None:
    if os.geteuid() == 0:
        site.patch.setattr(storage.os, "access", lambda path, _: Path(path) != site.folder.absolute())
    site.folder.chmod(0o500)
    finding = next(each for each in site.found() if each.severity is Severity.PROBLEM)
    site.folder.chmod(0o700)
    assert finding.fix.line == f"chmod u+wx {site.folder}"


def test_a_database_of_another_owner_is_told(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(site.folder / "issuer.db", 65534, 65534)
    site.require_fixed(site.one())


def test_a_disk_that_is_nearly_full_is_told(site: Site) -> None:
    full = SimpleNamespace(total=1024**4, used=0, free=100 * 1024**2)
    site.patch.setattr(storage.shutil, "disk_usage", lambda _: full)
    findings = site.found()
    assert {each.severity for each in findings} == {Severity.WARNING}
    assert all("100 MiB" in each.wrong and each.fix.line.startswith("df -h ") for each in findings)


# Several hosts


def beat(site: Site, name: str) -> None:
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value())
    now = system_clock()
    HeartbeatStore(database).beat(Heartbeat.of(name, name, 1, settings.policy(), now), now)
    database.close()


def test_sqlite_is_not_for_several_hosts(site: Site) -> None:
    for name in ("one/7", "one/8"):
        beat(site, name)
    assert site.found() == []
    beat(site, "two/7")
    assert "issuers run on one, two with one SQLite file" in site.one().wrong


def test_a_directory_of_keys_must_be_shared_by_several_hosts(empty: Site, postgresql: str) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql))
    empty.make()
    for name in ("one/7", "two/7"):
        beat(empty, name)
    assert empty.one(Severity.WARNING).fix.line == "issuer move --to-file FILE"


# The key ring and its audit


def test_an_older_ring_that_was_restored_is_told_with_the_way_out(site: Site) -> None:
    shutil.copy(site.folder / "issuer.db", site.folder / "backup.db")
    issuer = build(load_settings())
    kid = issuer.keys.rotation.ring().standbys(system_clock())[0].kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now))
    issuer.close()
    shutil.move(site.folder / "backup.db", site.folder / "issuer.db")
    finding = site.one()
    assert kid in finding.wrong
    site.require_fixed(finding)


def test_a_lost_database_beside_private_keys_is_told(site: Site) -> None:
    (site.keys / NOTE).unlink()
    (site.folder / "issuer.db").unlink()
    Database("sqlite:///issuer.db").migrate()
    assert "2 private keys but no key ring" in site.one().wrong


def test_a_damaged_ring_is_told(site: Site) -> None:
    site.change("UPDATE key_ring SET document = '{}'")
    assert site.one().fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_a_damaged_note_is_removed(site: Site) -> None:
    (site.keys / NOTE).write_text("{}")
    site.require_fixed(site.one())


def test_a_missing_standby_and_an_overdue_rotation_are_told(site: Site) -> None:
    site.set(ISSUER_STANDBY_KEYS="2")
    assert "1 of 2 standby keys are missing" in site.one().wrong
    site.set(ISSUER_STANDBY_KEYS="1")
    later = MovableClock()
    later.now = system_clock() + timedelta(days=29)
    site.set(ISSUER_ROTATION_PERIOD="10d")
    (finding,) = (each for looked in look(later) for each in looked.findings if "overdue" in each.wrong)
    assert finding.fix.line == "issuer serve"


def test_a_clock_far_from_the_databases_is_told(empty: Site, postgresql: str) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql))
    empty.make()
    ahead = MovableClock()
    ahead.now = system_clock() + timedelta(minutes=5)
    (finding,) = (each for looked in look(ahead) for each in looked.findings)
    assert (finding.fix.line, "by NTP" in finding.wrong) == ("timedatectl set-ntp true", True)


def test_an_audit_that_is_not_whole_is_told(site: Site) -> None:
    site.change("DROP TRIGGER audit_refuses_update")
    site.change("UPDATE audit SET reason = 'nothing' WHERE number = 1")
    assert "the audit log is not intact: entry 1" in site.one().wrong


# Private keys


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_of_keys_that_others_may_enter_is_told(site: Site, mode: int) -> None:
    site.keys.chmod(mode)
    finding = site.found()[0]
    assert finding.fix.line == "chmod 700 keys"
    site.require_fixed(finding)


def test_a_key_file_that_others_may_read_is_told(site: Site) -> None:
    path = min(site.keys.glob("*.pem"))
    path.chmod(0o644)
    finding = site.found()[0]
    assert finding.fix.line == f"chmod 600 keys/{path.name}"
    site.require_fixed(finding)


def test_a_key_file_of_another_owner_is_told(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = min(site.keys.glob("*.pem"))
    os.chown(path, 65534, 65534)
    site.require_fixed(site.found()[0])


def test_a_symbolic_link_to_the_directory_of_keys_is_told(site: Site) -> None:
    site.keys.rename(site.folder / "elsewhere")
    site.keys.symlink_to(site.folder / "elsewhere")
    site.require_fixed(site.one(Severity.WARNING))


@pytest.mark.parametrize("kind", ["file", "FIFO"])
def test_a_directory_of_keys_that_is_none_is_told_and_not_waited_for(site: Site, kind: str) -> None:
    site.keys.rename(site.folder / "keys.safe")
    os.mkfifo(site.keys) if kind == "FIFO" else site.keys.write_text("")
    finding = site.one()
    assert "Not a directory" in finding.wrong
    site.apply(finding.fix.line + " && mv keys.safe keys")
    assert site.found() == []


def test_a_key_that_is_a_fifo_is_told_and_not_waited_for(site: Site) -> None:
    path = min(site.keys.glob("*.pem"))
    path.unlink()
    os.mkfifo(path, 0o600)
    assert any("is no file" in each.wrong for each in site.found())


def test_the_missing_private_half_of_a_published_key_is_told(site: Site) -> None:
    path = min(site.keys.glob("*.pem"))
    (site.folder / "BACKUP").mkdir()
    shutil.move(path, site.folder / "BACKUP" / path.name)
    finding = site.one()
    assert "missing" in finding.wrong
    site.require_fixed(finding)


def test_a_private_half_of_another_key_is_told(site: Site) -> None:
    one, other = sorted(site.keys.glob("*.pem"))
    one.write_bytes(other.read_bytes())
    assert f"the private key kept as {one.stem} is another key" in site.one().wrong


def test_a_private_half_that_is_missing_in_the_database_is_told(empty: Site) -> None:
    empty.set(ISSUER_KEYS="database")
    empty.make()
    empty.change("DELETE FROM private_keys WHERE kid = (SELECT min(kid) FROM private_keys)")
    assert empty.one().fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_what_belongs_to_no_key_is_told_and_moved_away(site: Site) -> None:
    (site.keys / "old key.pem").write_text("")
    (site.keys / "old key.pem").chmod(0o600)
    site.require_fixed(site.one(Severity.WARNING))
    assert (site.folder / "strays" / "old key.pem").exists()


def test_a_public_key_that_somebody_put_into_the_ring_is_told(site: Site) -> None:
    database = Database("sqlite:///issuer.db")
    store = RingStore(database)
    ring = store.load()
    assert ring
    forged = replace(ring.keys[1], jwk={**ring.keys[1].jwk, "x": ring.keys[0].jwk["x"]})
    store.save(replace(ring, version=2, keys=(ring.keys[0], forged)))
    database.close()
    assert "a kid is not the thumbprint of its public key" in site.one().wrong


# Keys in an HSM


@pytest.fixture
def hsm(site: Site) -> Site:
    site.set(ISSUER_KEYS="pkcs11")
    return site


def test_keys_in_an_hsm_need_module_and_token(hsm: Site) -> None:
    finding = hsm.one()
    assert "ISSUER_PKCS11_MODULE; ISSUER_PKCS11_TOKEN" in finding.wrong
    assert finding.fix.line.splitlines() == [
        "ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so",
        "ISSUER_PKCS11_TOKEN=LABEL",
    ]


def test_a_module_that_is_not_there_is_told(hsm: Site) -> None:
    hsm.set(ISSUER_PKCS11_MODULE="/nowhere/module.so", ISSUER_PKCS11_TOKEN="issuer")
    assert "there is no such file" in hsm.one().wrong


def test_a_token_that_cannot_be_opened_is_told(hsm: Site) -> None:
    pytest.importorskip("pkcs11")
    module = hsm.folder / "module.so"
    module.write_text("no library")
    hsm.set(ISSUER_PKCS11_MODULE=str(module), ISSUER_PKCS11_TOKEN="issuer")
    assert hsm.one().fix.line.startswith("pkcs11-tool --module ")


# One text for `serve` and `check`


def test_what_check_finds_wrong_with_settings_is_what_a_start_refuses_with(empty: Site) -> None:
    empty.set(ISSUER_PUBLISH_LEAD="1m")
    with pytest.raises(BadSettings) as refusal:
        build(load_settings())
    assert str(refusal.value) == next(each.wrong for each in empty.found())


def test_private_keys_that_the_directory_was_told_of_are_not_said_to_be_well(site: Site) -> None:
    for path in site.keys.glob("*.pem"):
        path.chmod(0o644)
    lines = CliRunner().invoke(app, ["check"]).output.splitlines()
    assert [line for line in lines if "private keys" in line] == []
    assert lines[-1] == "2 problems"


def test_keys_are_restored_into_a_directory_that_is_made_again(site: Site) -> None:
    names = [path.name for path in site.keys.glob("*.pem")]
    site.keys.rename(site.folder / "BACKUP")
    findings = [finding for each in look(system_clock) for finding in each.findings]
    assert sorted(finding.fix.line for finding in findings) == sorted(
        f"mkdir -p -m 700 keys && install -m 600 BACKUP/{name} keys/" for name in names
    )


# All at once


def test_all_that_is_wrong_with_settings_is_a_finding_with_a_fix_of_its_own(empty: Site) -> None:
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
def test_a_file_of_a_setting_that_is_a_pipe_is_told_and_not_waited_for(empty: Site, name: str) -> None:
    os.mkfifo("pipe")
    empty.patch.delenv("ISSUER_KEYS_PASSPHRASE")
    empty.set(**{name: "pipe"})
    assert [each.wrong for each in empty.found() if "pipe" in each.wrong and "no" in each.wrong]


@pytest.mark.parametrize("place", ["dangling", "dangling/below"])
def test_a_place_where_no_directory_of_keys_can_be_made_is_told(empty: Site, place: str) -> None:
    Path("dangling").symlink_to("nowhere")
    empty.set(ISSUER_KEYS=place)
    (told,) = [each.wrong for each in empty.found() if each.severity is Severity.PROBLEM]
    assert "dangling" in told


def test_a_folder_in_which_no_database_can_be_made_is_told(empty: Site) -> None:
    empty.set(ISSUER_DATABASE_URL="sqlite:///nowhere/issuer.db")
    finding = empty.one()
    assert "/nowhere is no folder" in finding.wrong


def test_a_token_is_opened_where_there_is_no_database_yet(hsm: Site) -> None:
    pytest.importorskip("pkcs11")
    module = hsm.folder / "module.so"
    module.write_text("no library")
    hsm.set(ISSUER_PKCS11_MODULE=str(module), ISSUER_PKCS11_TOKEN="issuer")
    for file in hsm.folder.glob("issuer.db*"):
        file.unlink()
    (at,) = [each.at for each in hsm.look() if not each.is_sound]
    assert at == "private keys"


def test_only_files_of_the_database_itself_have_rights_to_look_at(empty: Site) -> None:
    name = "is[s]uer*.db"
    empty.set(ISSUER_DATABASE_URL=f"sqlite:///{name}")
    empty.make()
    (empty.folder / "issuer1.db").touch(mode=0o644)
    assert empty.found() == []
    (empty.folder / name).chmod(0o644)
    assert "is[s]uer*.db" in empty.one().wrong
    empty.require_fixed(empty.one())


@pytest.mark.parametrize("origin", ["https://[::1", "https://app.example:port", "://", "https://a b"])
def test_a_malformed_origin_is_told_with_one_that_can_be_read(empty: Site, origin: str) -> None:
    empty.set(ISSUER_CORS_ORIGINS=f"https://good.example,{origin}")
    finding = empty.one()
    assert finding.wrong.startswith("ISSUER_CORS_ORIGINS: ")
    assert "https://good.example" in finding.fix.line
    empty.apply(finding.fix.line)
    assert not any(each.severity is Severity.PROBLEM for each in empty.found())
