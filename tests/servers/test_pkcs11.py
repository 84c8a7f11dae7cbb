"""`issuer serve` with private keys in a PKCS#11 token: several workers, one token, no key files."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support.components import require
from support.servers import Installation, eventually, kid_of
from support.softhsm import CONF, LABEL, MODULE, PIN, configured, initialise


@pytest.fixture
def hardware(installation: Installation) -> Installation:
    """An installation whose private keys are to be in a token that is empty still."""
    require("SoftHSM")
    conf = configured(installation.folder.parent / "softhsm")
    initialise(conf)
    (installation.folder / "pin").write_text(f"{PIN}\n")
    installation.settings |= {
        CONF: str(conf),
        "ISSUER_KEYS": "pkcs11",
        "ISSUER_PKCS11_MODULE": str(MODULE),
        "ISSUER_PKCS11_TOKEN": LABEL,
        "ISSUER_KEYS_PASSPHRASE_FILE": str(installation.folder / "pin"),
    }
    return installation


def served_kids(installation: Installation) -> list[str]:
    return [key["kid"] for key in installation.key_set().json()["keys"]]


def listed(installation: Installation) -> dict[str, str]:
    """Return the phase of each key."""
    keys = installation.command("keys", "list", "--json").document["keys"]
    return {key["kid"]: key["phase"] for key in keys}


def test_workers_share_a_token_through_rotation_revocation_and_restart(hardware: Installation) -> None:
    server = hardware.serve(workers=2).until_ready()
    assert f"in the PKCS#11 token {LABEL}" in server.output
    for pid in server.worker_pids:
        with server.only(pid):
            hardware.require_verifies(hardware.token(), hardware.key_set())
    first = kid_of(hardware.token())

    assert hardware.command("keys", "rotate").code == 0
    eventually(lambda: kid_of(hardware.token()) != first, "the next key signs")
    second = kid_of(hardware.token())
    standbys = {kid for kid, phase in listed(hardware).items() if phase == "standby"}
    eventually(lambda: standbys < set(served_kids(hardware)), "the new standby is published")

    revoked = hardware.command("keys", "revoke", second, "--reason", "a test", "--yes")
    assert revoked.code == 0, revoked
    for pid in server.worker_pids:
        with server.only(pid):
            eventually(lambda: second not in served_kids(hardware), "it is published no more")
            third = hardware.token()
            assert kid_of(third) not in {first, second}
            hardware.require_verifies(third, hardware.key_set())

    server.stop()
    again = hardware.serve(workers=2).until_ready()
    assert kid_of(hardware.token()) == kid_of(third)
    hardware.require_verifies(hardware.token(), hardware.key_set())
    assert set(served_kids(hardware)) == {
        kid for kid, phase in listed(hardware).items() if phase != "revoked"
    }
    for output in (server.output, again.output):
        assert PIN not in output
        assert "Traceback" not in output
    assert not hardware.keys.exists()
    assert not list(hardware.folder.rglob("*.pem"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ISSUER_KEYS_PASSPHRASE_FILE": "other pin"}, "refuses the PIN"),
        ({"ISSUER_PKCS11_TOKEN": "another"}, "ISSUER_PKCS11_TOKEN"),
        ({"ISSUER_PKCS11_MODULE": "/nowhere/module.so"}, "ISSUER_PKCS11_MODULE"),
        ({"ISSUER_PKCS11_MODULE": ""}, "ISSUER_PKCS11_MODULE"),
    ],
)
def test_a_token_that_cannot_be_used_is_one_line(
    hardware: Installation, settings: dict[str, str], says: str
) -> None:
    (hardware.folder / "other pin").write_text("97531")
    done = hardware.command("serve", "--port", str(hardware.port), **settings)
    assert done.code == 1
    assert done.err.startswith("failed: ")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "97531" not in done.err
    assert hardware.saved_ring() is None


def test_a_token_that_lost_its_keys_is_never_given_others(hardware: Installation) -> None:
    hardware.serve().until_ready().stop()
    ring = hardware.saved_ring()
    command = ["softhsm2-util", "--delete-token", "--token", LABEL]
    environment = {**os.environ, CONF: hardware.settings[CONF]}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    initialise(Path(hardware.settings[CONF]))
    done = hardware.command("serve", "--port", str(hardware.port))
    assert done.code == 1
    assert "is missing in the PKCS#11 token" in done.err
    assert hardware.saved_ring() == ring


def test_a_ring_that_was_lost_is_not_founded_again_beside_its_keys(hardware: Installation) -> None:
    hardware.serve().until_ready().stop()
    for path in hardware.folder.glob("issuer.db*"):
        path.unlink()
    done = hardware.command("serve", "--port", str(hardware.port))
    assert done.code == 1
    assert (
        "there is no key ring in the database, and the checkpoint with the private keys has version 1"
        in done.err
    )


# An older database was restored beside the token


def back_up(hardware: Installation) -> Path:
    """Return a copy of the database of nodes that are stopped."""
    backup = hardware.folder / "backup.db"
    with closing(sqlite3.connect(hardware.folder / "issuer.db")) as database:
        database.execute("VACUUM INTO ?", [str(backup)])
    return backup


def restore(hardware: Installation, backup: Path) -> None:
    for path in hardware.folder.glob("issuer.db*"):
        path.unlink()
    backup.rename(hardware.folder / "issuer.db")


def require_refused(hardware: Installation, says: str) -> None:
    """Every start and every command says the same, and what to do; nothing is changed by it."""
    ring = hardware.saved_ring()
    for arguments in (("serve", "--port", str(hardware.port)), ("keys", "list"), ("keys", "verify")):
        done = hardware.command(*arguments)
        assert done.code == 1, done
        assert done.err.count("\n") == 1
        assert says in done.err
        assert (
            "restore the key ring from the checkpoint with its private keys: issuer keys recover --reason TEXT"
            in done.err
        )
    checked = hardware.command("check")
    assert checked.code == 1
    assert says in checked.out
    assert "    issuer keys recover --reason TEXT\n" in checked.out
    assert hardware.saved_ring() == ring


def recover(hardware: Installation) -> None:
    done = hardware.command("keys", "recover", "--reason", "the disk died")
    assert done.code == 0, done
    assert hardware.command("check").code == 0
    assert hardware.command("keys", "recover", "--reason", "a habit").code == 4


def test_a_revoked_key_does_not_come_back_with_an_older_database(hardware: Installation) -> None:
    hardware.serve().until_ready().stop()
    backup = back_up(hardware)
    stolen = next(kid for kid, phase in listed(hardware).items() if phase == "current")
    assert hardware.command("keys", "revoke", stolen, "--reason", "stolen", "--yes", "--force").code == 0
    before = listed(hardware)
    restore(hardware, backup)
    require_refused(hardware, f"it would trust keys that were revoked since: {stolen[:8]}…")
    recover(hardware)
    hardware.serve().until_ready()
    assert listed(hardware) == before
    assert set(served_kids(hardware)) == set(before) - {stolen}
    hardware.require_verifies(hardware.token(), hardware.key_set())


def test_tokens_of_a_newer_key_stay_valid_after_an_older_database_is_restored(hardware: Installation) -> None:
    server = hardware.serve().until_ready()
    first = kid_of(hardware.token())
    backup = back_up(hardware)
    assert hardware.command("keys", "rotate").code == 0
    eventually(lambda: kid_of(hardware.token()) != first, "the next key signs")
    token, before = hardware.token(), listed(hardware)
    server.stop()
    restore(hardware, backup)
    require_refused(hardware, "it lacks keys made since: ")
    recover(hardware)
    hardware.serve().until_ready()
    assert listed(hardware) == before
    assert set(served_kids(hardware)) == set(before)
    hardware.require_verifies(token, hardware.key_set())
    assert kid_of(hardware.token()) == kid_of(token)


def test_tables_move_and_the_keys_stay_in_the_token(hardware: Installation) -> None:
    hardware.serve().until_ready().stop()
    (hardware.folder / "url").write_text("sqlite:///new.db")
    moved = hardware.command("move", "--to-file", "url", "--json")
    assert moved.code == 0, moved
    assert moved.document["private_keys"] == 0
    assert moved.document["settings"] == [f"ISSUER_DATABASE_URL=sqlite:///{hardware.folder}/new.db"]
    hardware.settings["ISSUER_DATABASE_URL"] = "sqlite:///new.db"
    hardware.serve().until_ready()
    hardware.require_verifies(hardware.token(), hardware.key_set())
