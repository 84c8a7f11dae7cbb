"""Checks of the private keys: directory, files, keys in the database and in a PKCS#11 token."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.components import require_root
from support.installation import Deployment
from typer.testing import CliRunner

from issuer.checks.finding import Severity
from issuer.checks.installation import run_checks
from issuer.cli.commands import app
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.keyring.store import RingStore


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_directory_of_keys_that_others_may_enter_is_reported(deployment: Deployment, mode: int) -> None:
    deployment.keys.chmod(mode)
    finding = deployment.found()[0]
    assert finding.fix.line == "chmod 700 keys"
    deployment.require_fixed(finding)


def test_a_key_file_that_others_may_read_is_reported(deployment: Deployment) -> None:
    path = min(deployment.keys.glob("*.pem"))
    path.chmod(0o644)
    finding = deployment.found()[0]
    assert finding.fix.line == f"chmod 600 keys/{path.name}"
    deployment.require_fixed(finding)


def test_a_key_file_of_another_owner_is_reported(deployment: Deployment) -> None:
    require_root()
    path = min(deployment.keys.glob("*.pem"))
    os.chown(path, 65534, 65534)
    deployment.require_fixed(deployment.found()[0])


def test_a_symbolic_link_to_the_directory_of_keys_is_reported(deployment: Deployment) -> None:
    deployment.keys.rename(deployment.folder / "elsewhere")
    deployment.keys.symlink_to(deployment.folder / "elsewhere")
    deployment.require_fixed(deployment.one(Severity.WARNING))


@pytest.mark.parametrize("kind", ["file", "FIFO"])
def test_a_directory_of_keys_that_is_none_is_reported_without_waiting_for_it(
    deployment: Deployment, kind: str
) -> None:
    deployment.keys.rename(deployment.folder / "keys.safe")
    os.mkfifo(deployment.keys) if kind == "FIFO" else deployment.keys.write_text("")
    finding = deployment.one()
    assert "Not a directory" in finding.wrong
    deployment.apply(finding.fix.line + " && mv keys.safe keys")
    assert deployment.found() == []


def test_a_key_that_is_a_fifo_is_reported_without_waiting_for_it(deployment: Deployment) -> None:
    path = min(deployment.keys.glob("*.pem"))
    path.unlink()
    os.mkfifo(path, 0o600)
    assert any("is not a file" in each.wrong for each in deployment.found())


def test_the_missing_private_key_of_a_published_key_is_reported(deployment: Deployment) -> None:
    path = min(deployment.keys.glob("*.pem"))
    (deployment.folder / "BACKUP").mkdir()
    shutil.move(path, deployment.folder / "BACKUP" / path.name)
    finding = deployment.one()
    assert "missing" in finding.wrong
    deployment.require_fixed(finding)


def test_a_private_key_of_another_key_is_reported(deployment: Deployment) -> None:
    one, other = sorted(deployment.keys.glob("*.pem"))
    one.write_bytes(other.read_bytes())
    assert f"the private key stored as {one.stem} is another key" in deployment.one().wrong


def test_a_private_key_that_is_missing_in_the_database_is_reported(empty: Deployment) -> None:
    empty.set(ISSUER_KEYS="database")
    empty.make()
    empty.change("DELETE FROM private_keys WHERE kid = (SELECT min(kid) FROM private_keys)")
    assert empty.one().fix.line == "rm -f issuer.db-wal issuer.db-shm && install -m 600 BACKUP issuer.db"


def test_a_file_of_no_key_is_reported_and_moved_away(deployment: Deployment) -> None:
    (deployment.keys / "old key.pem").write_text("")
    (deployment.keys / "old key.pem").chmod(0o600)
    deployment.require_fixed(deployment.one(Severity.WARNING))
    assert (deployment.folder / "strays" / "old key.pem").exists()


def test_a_public_key_that_was_added_to_the_ring_is_reported(deployment: Deployment) -> None:
    database = Database("sqlite:///issuer.db")
    store = RingStore(database)
    ring = store.load()
    assert ring
    forged = replace(ring.keys[1], jwk={**ring.keys[1].jwk, "x": ring.keys[0].jwk["x"]})
    store.save(replace(ring, version=2, keys=(ring.keys[0], forged)))
    database.close()
    assert "a kid is not the thumbprint of its public key" in deployment.one().wrong


@pytest.fixture
def hsm(deployment: Deployment) -> Deployment:
    deployment.set(ISSUER_KEYS="pkcs11")
    return deployment


def test_keys_in_an_hsm_need_module_and_token(hsm: Deployment) -> None:
    finding = hsm.one()
    assert "ISSUER_PKCS11_MODULE; ISSUER_PKCS11_TOKEN" in finding.wrong
    assert finding.fix.line.splitlines() == [
        "ISSUER_PKCS11_MODULE=/usr/lib/MODULE.so",
        "ISSUER_PKCS11_TOKEN=LABEL",
    ]


def test_a_module_that_is_not_there_is_reported(hsm: Deployment) -> None:
    hsm.set(ISSUER_PKCS11_MODULE="/nowhere/module.so", ISSUER_PKCS11_TOKEN="issuer")
    assert "no such file: " in hsm.one().wrong


def test_a_token_that_cannot_be_opened_is_reported(hsm: Deployment) -> None:
    module = hsm.folder / "module.so"
    module.write_text("no library")
    hsm.set(ISSUER_PKCS11_MODULE=str(module), ISSUER_PKCS11_TOKEN="issuer")
    assert hsm.one().fix.line.startswith("pkcs11-tool --module ")


def test_private_keys_with_reported_permissions_are_not_shown_as_sound(deployment: Deployment) -> None:
    for path in deployment.keys.glob("*.pem"):
        path.chmod(0o644)
    lines = CliRunner().invoke(app, ["check"]).output.splitlines()
    assert [line for line in lines if "private keys" in line] == []
    assert lines[-1] == "2 problems"


def test_keys_are_restored_into_a_directory_that_is_made_again(deployment: Deployment) -> None:
    names = [path.name for path in deployment.keys.glob("*.pem")]
    deployment.keys.rename(deployment.folder / "BACKUP")
    findings = [finding for each in run_checks(system_clock) for finding in each.findings]
    assert sorted(finding.fix.line for finding in findings) == sorted(
        f"mkdir -p -m 700 keys && install -m 600 BACKUP/{name} keys/" for name in names
    )


@pytest.mark.parametrize("place", ["dangling", "dangling/below"])
def test_a_place_where_no_directory_of_keys_can_be_made_is_reported(empty: Deployment, place: str) -> None:
    Path("dangling").symlink_to("nowhere")
    empty.set(ISSUER_KEYS=place)
    (wrong,) = [each.wrong for each in empty.found() if each.severity is Severity.PROBLEM]
    assert "dangling" in wrong


def test_a_token_is_opened_where_there_is_no_database_yet(hsm: Deployment) -> None:
    module = hsm.folder / "module.so"
    module.write_text("no library")
    hsm.set(ISSUER_PKCS11_MODULE=str(module), ISSUER_PKCS11_TOKEN="issuer")
    for file in hsm.folder.glob("issuer.db*"):
        file.unlink()
    (name,) = [each.name for each in hsm.check() if not each.is_sound]
    assert name == "private keys"
