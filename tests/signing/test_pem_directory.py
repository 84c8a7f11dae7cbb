"""The directory of private keys: links, special files, and files of other programs."""

import os
import subprocess
from pathlib import Path

import pytest
from support.defaults import MovableClock, sound_key
from support.ring_nodes import FAST

from issuer.database.database import Database
from issuer.errors import KeyUnavailable
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory


@pytest.fixture
def node(database: Database, keys: Path, clock: MovableClock) -> Node:
    signer = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests")
    rotation = Rotation(RingStore(database), signer, FAST, clock, "tests")
    return Node(rotation, signer, HeartbeatStore(database), FAST, clock, "tests")


@pytest.mark.parametrize("kid", ["../victim", "victim", "/victim", "a" * 44, "", "\0" * 43])
def test_an_invalid_kid_names_no_file(keys: Path, tmp_path: Path, kid: str) -> None:
    directory = PemDirectory(keys)
    keys.mkdir(mode=0o700)
    (tmp_path / "victim.pem").write_text("the key of another program")
    (keys / "victim.pem").write_text("the key of another program")
    for act in (directory.remove, directory.read, directory.keep, lambda kid: directory.write(kid, b"x")):
        with pytest.raises(KeyUnavailable, match="is not the kid of a key"):
            act(kid)
    assert (tmp_path / "victim.pem").exists()
    assert (keys / "victim.pem").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder"])
def test_a_checkpoint_that_is_not_a_regular_file_is_not_read(node: Node, keys: Path, kind: str) -> None:
    node.refresh()
    (keys / CHECKPOINT).unlink()
    match kind:
        case "link":
            (keys / CHECKPOINT).symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(keys / CHECKPOINT)
        case "device":
            (keys / CHECKPOINT).symlink_to("/dev/full")
        case "folder":
            (keys / CHECKPOINT).mkdir()
    with pytest.raises(KeyUnavailable):
        PemDirectory(keys).read_checkpoints()
    assert node.refresh()


@pytest.mark.processes
def test_a_private_key_that_is_a_symbolic_link_is_refused(node: Node, keys: Path, tmp_path: Path) -> None:
    ring = node.refresh().ring
    path = keys / f"{ring.keys[0].kid}.pem"
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(KeyUnavailable, match="symbolic link") as refusal:
        PemDirectory(keys).read(ring.keys[0].kid)
    fixes = [error.fix for error in PemDirectory(keys).permission_errors()]
    assert refusal.value.fix
    assert fixes == [refusal.value.fix]
    subprocess.run(["bash", "-c", refusal.value.fix.line], check=True)
    assert PemDirectory(keys).read(ring.keys[0].kid)
    assert not list(PemDirectory(keys).permission_errors())


def test_permissions_of_a_directory_with_files_of_another_program_are_not_changed(keys: Path) -> None:
    keys.mkdir()
    keys.chmod(0o755)
    (keys / "server.pem").write_text("the certificate of another program")
    with pytest.raises(KeyUnavailable, match="may be read or changed by others"):
        PemDirectory(keys).write(sound_key("a").kid, b"x")
    assert keys.stat().st_mode & 0o777 == 0o755


def test_permissions_of_other_programs_files_are_not_reported(keys: Path) -> None:
    keys.mkdir(mode=0o700)
    (keys / "server.pem").write_text("the certificate of another program")
    (keys / "server.pem").chmod(0o644)
    assert not list(PemDirectory(keys).permission_errors())
    assert PemDirectory(keys).orphans([]) == ["server.pem"]
