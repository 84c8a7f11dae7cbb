"""Checks of the key ring: lost, older, damaged, overdue; its audit log, clock and hosts."""

import shutil
from collections.abc import Mapping
from datetime import timedelta

from support.defaults import MovableClock
from support.installation import Deployment
from support.mail_server import mail_server
from support.postgresql import new_database

from issuer.checks.finding import Severity
from issuer.checks.installation import run_checks
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.settings.loading import load_settings
from issuer.settings.shared import shared_settings
from issuer.signing.pem_directory import CHECKPOINT
from issuer.wiring import build


def test_private_keys_without_note_and_database_are_reported_before_a_start_refuses_them(
    deployment: Deployment,
) -> None:
    (deployment.folder / "issuer.db").unlink()
    (deployment.keys / CHECKPOINT).unlink()
    finding = deployment.one()
    assert "there are 2 private keys but no key ring in the database" in finding.wrong


def beat(deployment: Deployment, name: str, other_settings: Mapping[str, str] | None = None) -> None:
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value())
    now = system_clock()
    HeartbeatStore(database).beat(Heartbeat.of(name, name, 1, settings.policy(), now, other_settings), now)
    database.close()


def test_a_directory_of_keys_must_be_shared_by_several_hosts(empty: Deployment, postgresql: str) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql))
    empty.make()
    for name in ("one/7", "two/7"):
        beat(empty, name)
    assert empty.one(Severity.WARNING).fix.line == "issuer move --to-file FILE"


def test_a_setting_with_another_value_at_a_running_node_is_reported_with_that_value(
    deployment: Deployment,
) -> None:
    beat(deployment, "one/7", {"ISSUER_URL": "https://other.example", "ISSUER_CLOCK_SKEW": "30s"})
    finding = deployment.one()
    assert (
        "ISSUER_URL is http://127.0.0.1:8000 here and https://other.example at the running issuer one/7"
        in finding.wrong
    )
    assert finding.fix.line == "ISSUER_URL=https://other.example"


def test_mail_is_on_at_all_nodes_or_at_none_but_servers_and_passwords_may_differ(
    deployment: Deployment,
) -> None:
    with mail_server() as server:
        without = shared_settings(load_settings())
        deployment.set(ISSUER_SMTP_URL=server.url, ISSUER_MAIL_FROM="accounts@issuer.example")
        ours = shared_settings(load_settings())
        assert server.url not in ours.values()
        beat(deployment, "one/7", without)
        lines = {finding.wrong.partition(":")[0]: finding.fix.line for finding in deployment.found()}
        assert lines == {
            "ISSUER_SMTP_URL is set here and not set at the running issuer one/7": "ISSUER_SMTP_URL=",
            "ISSUER_MAIL_FROM is accounts@issuer.example here and no-reply@127.0.0.1 at the running issuer one/7": (
                "ISSUER_MAIL_FROM=no-reply@127.0.0.1"
            ),
        }
        beat(deployment, "one/7", ours)
        assert deployment.found() == []
    deployment.set(ISSUER_SMTP_URL="")
    assert deployment.one().fix.line == "ISSUER_SMTP_URL=smtps://USER:PASSWORD@HOST:PORT"


def test_a_restored_older_ring_is_reported_with_its_fix(deployment: Deployment) -> None:
    shutil.copy(deployment.folder / "issuer.db", deployment.folder / "backup.db")
    issuer = build(load_settings())
    kid = issuer.keys.rotation.ring().standbys(system_clock())[0].kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now))
    issuer.close()
    shutil.move(deployment.folder / "backup.db", deployment.folder / "issuer.db")
    finding = deployment.one()
    assert kid in finding.wrong
    deployment.require_fixed(finding)


def test_a_lost_database_beside_private_keys_is_reported(deployment: Deployment) -> None:
    (deployment.keys / CHECKPOINT).unlink()
    (deployment.folder / "issuer.db").unlink()
    Database("sqlite:///issuer.db").migrate()
    assert "2 private keys but no key ring" in deployment.one().wrong


def test_a_damaged_ring_is_reported(deployment: Deployment) -> None:
    deployment.change("UPDATE key_ring SET document = '{}'")
    assert deployment.one().fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_a_damaged_note_is_removed(deployment: Deployment) -> None:
    (deployment.keys / CHECKPOINT).write_text("{}")
    deployment.require_fixed(deployment.one())


def test_a_missing_standby_and_an_overdue_rotation_are_reported(deployment: Deployment) -> None:
    deployment.set(ISSUER_STANDBY_KEYS="2")
    assert "1 of 2 standby keys are missing" in deployment.one().wrong
    deployment.set(ISSUER_STANDBY_KEYS="1")
    later = MovableClock()
    later.now = system_clock() + timedelta(days=29)
    deployment.set(ISSUER_ROTATION_PERIOD="10d")
    (finding,) = (each for result in run_checks(later) for each in result.findings if "overdue" in each.wrong)
    assert finding.fix.line == "issuer serve"


def test_a_clock_far_from_the_databases_is_reported(empty: Deployment, postgresql: str) -> None:
    empty.set(ISSUER_DATABASE_URL=new_database(postgresql))
    empty.make()
    ahead = MovableClock()
    ahead.now = system_clock() + timedelta(minutes=5)
    (finding,) = (each for result in run_checks(ahead) for each in result.findings)
    assert (finding.fix.line, "by NTP" in finding.wrong) == ("timedatectl set-ntp true", True)


def test_a_damaged_audit_log_is_reported(deployment: Deployment) -> None:
    deployment.change("DROP TRIGGER audit_refuses_update")
    deployment.change("UPDATE audit SET reason = 'nothing' WHERE number = 1")
    assert "the audit log is not intact: entry 1" in deployment.one().wrong
