"""An older database that was restored: nobody goes on by it; the way out revives no revoked key, and loses none.

The databases here are files that are copied and put back, as an operator does; the private keys are files or in a
PKCS#11 token. What is noted in a token is told in `test_noting`.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from keyring.test_ring import START
from keyring.test_rotation import FAST, files, kids, rotation, signer
from support import softhsm
from support.defaults import MovableClock
from support.postgresql import new_database

from issuer.audit.chain import Action, fault
from issuer.audit.store import AuditStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable
from issuer.errors import KeyUnavailable, NothingToDo, OlderRing, Refused
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.private_keys import DamagedNote, PrivateHalves
from issuer.keyring.recovery import Recovery
from issuer.keyring.restore_detection import comes_after, contradiction, reunited
from issuer.keyring.ring import KeyRing, Phase
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, key_ring
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PrivateKeyStore
from issuer.signing.pem_directory import NOTE, PemDirectory
from issuer.signing.pkcs11.signer import Pkcs11Signer

DUE = {"days": 1}


class Place:
    """A SQLite database with its backups, and private keys beside it."""

    def __init__(
        self, folder: Path, clock: MovableClock, signer: Callable[[], PemSigner | Pkcs11Signer]
    ) -> None:
        self.path, self.keys, self.clock = folder / "issuer.db", folder / "keys", clock
        self.signer = signer
        self.database = self._opened()
        self.rotation.reconcile()

    def _opened(self) -> Database:
        database = Database(f"sqlite:///{self.path}")
        database.migrate()
        return database

    @property
    def rotation(self) -> Rotation:
        return Rotation(RingStore(self.database), self.signer(), FAST, self.clock, "tests")

    @property
    def recovery(self) -> Recovery:
        store = RingStore(self.database)
        return Recovery(self.rotation, store, self.signer(), FAST, self.clock, "operator")

    def back_up(self) -> bytes:
        self.database.close()  # the log of SQLite is brought into the file
        return self.path.read_bytes()

    def restore(self, backup: bytes) -> None:
        self.database.close()
        for path in self.path.parent.glob("issuer.db*"):
            path.unlink()
        self.path.write_bytes(backup)
        self.database = self._opened()

    def rotate(self) -> KeyRing:
        self.clock.advance(**DUE)
        return self.rotation.change(lambda ring, now: ring.promoted(FAST, now))

    def revoke(self, kid: str) -> KeyRing:
        self.clock.advance(seconds=1)
        return self.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))

    def phases(self) -> dict[str, Phase]:
        ring = RingStore(self.database).load()
        assert ring
        return {key.kid: ring.phase(key, self.clock()) for key in ring.keys}

    def node(self) -> tuple[PemSigner | Pkcs11Signer, Node]:
        holder = self.signer()
        performs = Rotation(RingStore(self.database), holder, FAST, self.clock, "node a")
        return holder, Node(performs, holder, HeartbeatStore(self.database), FAST, self.clock, "a")

    def start(self) -> KeyRing:
        return self.node()[1].refresh().ring

    def noted(self) -> KeyRing:
        ring = PrivateHalves(self.signer()).noted()
        assert ring
        return ring


@pytest.fixture
def in_files(tmp_path: Path, clock: MovableClock) -> Place:
    return Place(tmp_path, clock, lambda: signer(tmp_path / "keys"))


@pytest.fixture(params=["directory", "pkcs11"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    if request.param == "directory":
        yield request.getfixturevalue("in_files")
    else:
        with softhsm.fresh_token(tmp_path / "softhsm", monkeypatch):
            yield Place(tmp_path, clock, softhsm.signer)


def test_the_newest_backup_is_restored_without_a_word(place: Place) -> None:
    place.rotate()
    ring = place.revoke(place.rotation.ring().standbys(place.clock())[0].kid)
    place.restore(place.back_up())
    _, node = place.node()
    assert node.refresh().ring.keys == ring.keys
    assert node.warnings() == []
    with pytest.raises(NothingToDo):
        place.recovery.recover("a habit")


def test_an_older_ring_is_refused_and_recovered_with_what_was_revoked_and_made_since(place: Place) -> None:
    first = place.rotation.ring().current(place.clock()).kid
    backup = place.back_up()
    place.rotate()
    newest = place.revoke(first)
    made = {key.kid for key in newest.keys} - {first}
    place.restore(backup)
    with pytest.raises(OlderRing, match=f"trust keys that were revoked since: {first}"):
        place.start()
    for ask in (place.rotation.ring, place.rotation.reconcile, place.rotate):
        with pytest.raises(OlderRing, match="issuer keys recover"):
            ask()
    assert {key.kid for key in RingStore(place.database).load().keys} & made < made  # type: ignore[union-attr]
    assert place.recovery.preview().keys == place.recovery.recover("the disk died").keys
    ring = place.start()
    assert (ring.version, ring.keys) == (newest.version + 1, newest.keys)
    assert place.phases()[first] is Phase.REVOKED
    assert {f"{kid}.pem" for kid in place.signer().kept()} == kids(ring)
    links, head = AuditStore(place.database).chain()
    assert fault(links, head) is None
    told = [(link.entry.action, link.entry.kid) for link in links if link.entry.ring_version == ring.version]
    assert (Action.REVOKED, first) in told
    assert told[-1] == (Action.RECOVERED, None)
    assert links[-1].entry.reason == "the disk died"


def test_tokens_of_before_and_since_the_backup_verify_after_the_recovery(place: Place) -> None:
    backup = place.back_up()
    tokens = {}
    for _ in range(3):
        holder, node = place.node()
        key = node.refresh().ring.current(place.clock())
        tokens[key.kid] = (key.alg, holder.sign(key.kid, b"a token"))
        place.rotate()
    place.restore(backup)
    place.recovery.recover("the disk died")
    ring, now = place.start(), place.clock()
    alive = {key.kid: key for key in ring.published_keys(now)}
    newest = max(tokens, key=lambda kid: ring.find(kid).activates_at if kid in alive else START)
    alg, signature = tokens[newest]
    algorithm = jwt.get_algorithm_by_name(alg)
    assert algorithm.verify(b"a token", jwt.PyJWK(dict(alive[newest].jwk), alg).key, signature)
    assert now == ring.current(now).activates_at


def test_a_recovery_that_stops_right_after_its_save_is_complete_after_the_next_start(place: Place) -> None:
    stolen = place.rotation.ring().standbys(place.clock())[0].kid
    backup = place.back_up()
    ring = place.revoke(stolen)
    place.restore(backup)
    recovery = place.recovery
    recovery._halves.note = lambda _, **__: None  # type: ignore[method-assign]
    recovery._halves.settle = lambda _, **__: None  # type: ignore[method-assign]
    recovery.recover("the disk died")
    assert place.start().version == ring.version + 1
    place.restore(backup)
    with pytest.raises(OlderRing, match=f"version {ring.version + 1} "):
        place.start()


def test_keys_that_are_slow_to_open_do_not_keep_an_operator_from_recovering(place: Place) -> None:
    backup = place.back_up()
    ring = place.rotate()
    place.restore(backup)
    recovery, opened = place.recovery, set[str]()
    load = recovery._signer.load

    def slow(kid: str, alg: str) -> None:
        if kid not in opened:
            place.clock.advance(seconds=2)
        opened.add(kid)
        load(kid, alg)

    recovery._signer.load = slow  # type: ignore[method-assign]
    assert recovery.recover("the disk died").version == ring.version + 1
    assert place.start().version == ring.version + 1


def test_a_lost_database_is_founded_again_with_the_ring_that_was(place: Place, tmp_path: Path) -> None:
    ring = place.rotate()
    place.database.close()
    for path in tmp_path.glob("issuer.db*"):
        path.unlink()
    place.database = place._opened()
    with pytest.raises(OlderRing, match="no key ring in the database"):
        place.start()
    place.recovery.recover("the disk died")
    assert place.start().keys == ring.keys


def test_of_two_operators_who_recover_at_once_one_does(place: Place) -> None:
    backup = place.back_up()
    place.rotate()
    place.restore(backup)

    def recover(recovery: Recovery) -> str:
        try:
            recovery.recover("the disk died")
        except (NothingToDo, DatabaseUnavailable) as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(4) as operators:
        ends = sorted(operators.map(recover, [place.recovery for _ in range(4)]))
    assert ends.count("done") == 1
    assert set(ends) <= {"done", "NothingToDo", "DatabaseUnavailable"}
    assert place.start().version == 3


def test_a_lost_private_half_is_told_before_a_recovery_and_may_be_gone_for_good(place: Place) -> None:
    backup = place.back_up()
    current = place.rotate().current(place.clock()).kid
    place.restore(backup)
    place.signer().destroy(current)
    with pytest.raises(KeyUnavailable, match=current):
        place.recovery.recover("the disk died")
    place.recovery.recover("the disk died", blindly=True)
    assert place.rotation.ring().current(place.clock()).kid == current


def test_a_running_process_refuses_an_older_ring_before_it_changes_it_and_follows_the_recovery(
    place: Place,
) -> None:
    backup = place.back_up()
    place.rotate()
    _, node = place.node()
    seen = node.refresh()
    place.restore(backup)
    node._rotation._store = node._rotation.halves._store = RingStore(place.database)
    node._heartbeats._database = place.database
    place.clock.advance(seconds=1)
    with pytest.raises(OlderRing):
        node.refresh()
    assert node.view == seen
    assert RingStore(place.database).load().version == 1  # type: ignore[union-attr]
    assert "issuer keys recover" in node.warnings()[0]
    place.recovery.recover("the disk died")
    assert node.refresh().ring.version == seen.ring.version + 1
    assert node.warnings() == []


# The note


def test_a_crash_between_a_save_and_its_note_is_made_good_by_the_next_process(place: Place) -> None:
    backup = place.back_up()
    crashes = place.rotation
    place.clock.advance(**DUE)
    crashes.halves.note = lambda _, **__: None  # type: ignore[method-assign]
    ring = crashes.change(lambda ring, now: ring.promoted(FAST, now))
    assert place.noted().version == ring.version - 1
    assert place.start().version == ring.version
    place.restore(backup)
    with pytest.raises(OlderRing):
        place.start()


def test_the_note_never_goes_back(place: Place) -> None:
    older = place.rotation.ring()
    newer = place.rotate()
    late = PrivateHalves(place.signer())
    late.note(older)
    assert late.noted() == place.noted() == newer


def test_the_note_is_for_the_owner_only(in_files: Place) -> None:
    assert (in_files.keys / NOTE).stat().st_mode & 0o077 == 0


def test_a_directory_without_keys_gets_no_note(in_files: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    PrivateHalves(signer(elsewhere)).note(in_files.rotation.ring())
    PrivateHalves(signer(tmp_path / "nowhere")).note(in_files.rotation.ring())
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_note_stops_a_start_and_not_a_process_that_runs(in_files: Place) -> None:
    _, node = in_files.node()
    node.refresh()
    (in_files.keys / NOTE).write_text('{"version": 1')
    with pytest.raises(DamagedNote, match="remove it"):
        in_files.start()
    in_files.clock.advance(seconds=1)
    assert node.refresh()
    ring = node._rotation.change(lambda ring, now: ring.revoked(ring.keys[1].kid, "stolen", FAST, now))
    assert in_files.start() == ring


def test_a_note_that_cannot_be_written_is_told_and_stops_nothing(in_files: Place) -> None:
    holder, node = in_files.node()
    node.refresh()

    def full(text: bytes, replaces: Callable[[bytes], bool]) -> None:
        raise KeyUnavailable("no space left on the device")

    holder.note = full  # type: ignore[method-assign]
    in_files.rotate()
    (in_files.keys / NOTE).unlink()
    in_files.clock.advance(seconds=1)
    assert node.refresh().ring.version == 2
    assert any("no space left" in warning for warning in node.warnings())


def test_an_older_directory_of_keys_brings_no_revoked_key_back(in_files: Place, tmp_path: Path) -> None:
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
    assert json.loads((in_files.keys / NOTE).read_bytes())["version"] == ring.version


# Where nothing can be noted


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, clock: MovableClock) -> Iterator[Database]:
    clock.now = clock()  # the server has a clock, too
    url = f"sqlite:///{tmp_path}/shared.db"
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("postgresql"))
    database = Database(url)
    database.migrate()
    yield database
    database.close()


def test_with_keys_in_the_database_the_audit_tells_that_the_ring_alone_was_put_back(
    shared: Database, clock: MovableClock
) -> None:
    vault = PemSigner(PrivateKeyStore(shared), lambda: "passphrase")

    def performs() -> Rotation:
        return Rotation(RingStore(shared), vault, FAST, clock, "tests")

    performs().reconcile()
    with shared.read() as connection:
        older = connection.execute(key_ring.select()).mappings().one()
    clock.advance(seconds=1)
    performs().change(lambda ring, now: ring.revoked(ring.keys[1].kid, "stolen", FAST, now))
    with shared.write() as connection:
        connection.execute(key_ring.update().values(**older))
    with pytest.raises(DatabaseDamaged, match="the audit beside it tells of version 2"):
        performs().reconcile(starting=True)
    with pytest.raises(DatabaseDamaged):
        performs().ring()
    store = RingStore(shared)
    with pytest.raises(Refused, match="newest backup"):
        Recovery(performs(), store, vault, FAST, clock, "operator").recover("the disk died")


def test_several_nodes_share_a_directory_and_none_mistakes_another_for_a_restored_backup(
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
    assert json.loads((keys / NOTE).read_bytes())["version"] == rotation(shared, keys, clock).ring().version


# What follows what, as pure functions


def test_versions_only_grow_and_what_is_revoked_stays_revoked(in_files: Place) -> None:
    first = in_files.rotation.ring()
    second = in_files.revoke(first.keys[1].kid)
    assert comes_after(second, first)
    assert comes_after(first, first)
    assert not comes_after(first, second)
    assert not comes_after(None, first)
    assert not comes_after(replace(first, version=9), second)  # it went on from an older one
    assert not comes_after(replace(second, keys=second.keys[:-1]), second)
    assert second.keys[-1].kid in contradiction(first, second)


def test_of_two_histories_each_key_has_the_worst_of_both(in_files: Place) -> None:
    first = in_files.rotation.ring()
    current, standby = first.keys
    revoked = replace(standby, revoked_at=START, revoked_reason="stolen", compromised=True)
    elsewhere = replace(first, version=7, keys=(current, revoked))
    noted = in_files.rotate()
    both = reunited(elsewhere, noted, here=frozenset())
    assert both.version == 8
    assert both.find(standby.kid).compromised
    assert both.find(standby.kid).revoked_reason == "stolen"
    assert {key.kid for key in both.keys} == {key.kid for key in noted.keys}
    stray = replace(current, kid="made elsewhere")
    other = replace(elsewhere, keys=(*elsewhere.keys, stray))
    assert stray not in reunited(other, noted, here=frozenset()).keys
    assert stray in reunited(other, noted, here=frozenset({stray.kid})).keys


def test_the_directory_says_what_hinders_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyUnavailable, match="ISSUER_KEYS"):
        PemDirectory(tmp_path / "file").noted()
