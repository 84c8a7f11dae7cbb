"""Older rings are detected, with keys in files or in the database, and two diverged rings are merged."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.defaults import MovableClock
from support.example_rings import START
from support.postgresql import new_database
from support.restorable import Place
from support.ring_nodes import FAST, files, kids, rotation

from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.errors import KeyUnavailable, Refused
from issuer.keyring.recovery import Recovery
from issuer.keyring.restore_detection import comes_after, describe_conflict, merged
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, key_ring
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory


def test_an_older_directory_of_keys_restores_no_revoked_key(in_files: Place, tmp_path: Path) -> None:
    stolen = in_files.rotation.ring().standbys(in_files.clock())[0].kid
    shutil.copytree(in_files.keys, tmp_path / "backup")
    in_files.revoke(stolen)
    made = files(in_files.keys)
    for name in made:
        shutil.copy(in_files.keys / name, tmp_path / "backup" / name)
    shutil.rmtree(in_files.keys)
    (tmp_path / "backup").rename(in_files.keys)
    ring = in_files.start()
    assert files(in_files.keys) == made == kids(ring)
    assert json.loads((in_files.keys / CHECKPOINT).read_bytes())["version"] == ring.version


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, clock: MovableClock) -> Iterator[Database]:
    clock.now = system_clock()  # the server has a clock, too
    url = f"sqlite:///{tmp_path}/shared.db"
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("postgresql"))
    database = Database(url)
    database.migrate()
    yield database
    database.close()


def test_with_keys_in_the_database_the_audit_shows_that_only_the_ring_was_restored(
    shared: Database, clock: MovableClock
) -> None:
    storage = PemSigner(PemDatabase(shared), lambda: "passphrase")

    def performs() -> Rotation:
        return Rotation(RingStore(shared), storage, FAST, clock, "tests")

    performs().reconcile()
    with shared.read() as connection:
        older = connection.execute(key_ring.select()).mappings().one()
    clock.advance(seconds=1)
    performs().change(lambda ring, now: ring.revoked(ring.keys[1].kid, "stolen", FAST, now))
    with shared.write() as connection:
        connection.execute(key_ring.update().values(**older))
    with pytest.raises(DatabaseDamaged, match="the audit log beside it records version 2"):
        performs().reconcile(starting=True)
    with pytest.raises(DatabaseDamaged):
        performs().ring()
    store = RingStore(shared)
    with pytest.raises(Refused, match="newest backup"):
        Recovery(performs(), store, storage, FAST, clock, "operator").recover("the disk died")


def test_nodes_that_share_a_directory_do_not_mistake_changes_for_a_restored_backup(
    shared: Database, keys: Path, clock: MovableClock
) -> None:
    rotation(shared, keys, clock).reconcile()

    def revoke_often(_: int) -> None:
        performs = rotation(shared, keys, clock)
        for _ in range(6):
            performs.change(lambda ring, now: ring.revoked(ring.standbys(now)[0].kid, "a test", FAST, now))

    def look_often(_: int) -> None:
        performs = rotation(shared, keys, clock)
        for _ in range(60):
            performs.reconcile()

    with ThreadPoolExecutor(4) as processes:
        work = [processes.submit(do, each) for each in range(2) for do in (revoke_often, look_often)]
        for each in work:
            each.result()
    assert (
        json.loads((keys / CHECKPOINT).read_bytes())["version"]
        == rotation(shared, keys, clock).ring().version
    )


def test_an_older_version_or_a_lost_revocation_is_an_older_ring(in_files: Place) -> None:
    first = in_files.rotation.ring()
    second = in_files.revoke(first.keys[1].kid)
    assert comes_after(second, first)
    assert comes_after(first, first)
    assert not comes_after(first, second)
    assert not comes_after(None, first)
    assert not comes_after(replace(first, version=9), second)  # it went on from an older one
    assert not comes_after(replace(second, keys=second.keys[:-1]), second)
    assert second.keys[-1].kid in describe_conflict(first, second)


def test_merged_keys_are_revoked_in_either_ring_and_have_the_longer_lifetimes(in_files: Place) -> None:
    first = in_files.rotation.ring()
    current, standby = first.keys
    revoked = replace(standby, revoked_at=START, revoked_reason="stolen", compromised=True)
    elsewhere = replace(first, version=7, keys=(current, revoked))
    seen = in_files.rotate()
    both = merged(elsewhere, seen, private_keys=frozenset())
    assert both.version == 8
    assert both.find(standby.kid).compromised
    assert both.find(standby.kid).revoked_reason == "stolen"
    assert {key.kid for key in both.keys} == {key.kid for key in seen.keys}
    stray = replace(current, kid="made elsewhere")
    other = replace(elsewhere, keys=(*elsewhere.keys, stray))
    assert stray not in merged(other, seen, private_keys=frozenset()).keys
    assert stray in merged(other, seen, private_keys=frozenset({stray.kid})).keys


def test_a_directory_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyUnavailable, match="ISSUER_KEYS"):
        PemDirectory(tmp_path / "file").read_checkpoints()
