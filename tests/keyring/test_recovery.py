"""An older database is restored: it is refused, and the recovery loses no key and trusts no revoked one.

The databases are files that are copied and put back; the private keys are files or in a PKCS#11 token.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from support.example_rings import START
from support.restorable import Place
from support.ring_nodes import kids

from issuer.audit.chain import Action, integrity_error
from issuer.audit.store import AuditStore
from issuer.database.errors import DatabaseUnavailable
from issuer.errors import KeyUnavailable, NothingToDo, OlderRing
from issuer.keyring.recovery import Recovery
from issuer.keyring.ring import Phase
from issuer.keyring.store import RingStore


def test_the_newest_backup_can_be_restored(place: Place) -> None:
    place.rotate()
    ring = place.revoke(place.rotation.ring().standbys(place.clock())[0].kid)
    place.restore(place.back_up())
    _, node = place.node()
    assert node.refresh().ring.keys == ring.keys
    assert node.warnings() == []
    with pytest.raises(NothingToDo):
        place.recovery.recover("a habit")


def test_an_older_ring_is_refused_and_recovered_with_later_revocations_and_keys(place: Place) -> None:
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
    assert integrity_error(links, head) is None
    recorded = [
        (link.entry.action, link.entry.kid) for link in links if link.entry.ring_version == ring.version
    ]
    assert (Action.REVOKED, first) in recorded
    assert recorded[-1] == (Action.RECOVERED, None)
    assert links[-1].entry.reason == "the disk died"


def test_tokens_issued_before_and_after_the_backup_verify_after_the_recovery(place: Place) -> None:
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
    newest = max(tokens, key=lambda kid: ring.find(kid).activates_at or START if kid in alive else START)
    alg, signature = tokens[newest]
    algorithm = jwt.get_algorithm_by_name(alg)
    assert algorithm.verify(b"a token", jwt.PyJWK(dict(alive[newest].jwk), alg).key, signature)
    assert now == ring.current(now).activates_at


def test_a_recovery_that_stops_after_its_save_is_completed_by_the_next_start(place: Place) -> None:
    stolen = place.rotation.ring().standbys(place.clock())[0].kid
    backup = place.back_up()
    ring = place.revoke(stolen)
    place.restore(backup)
    recovery = place.recovery
    recovery._checkpoint.write = lambda _, **__: None  # type: ignore[method-assign]
    recovery._private_keys.sync = lambda _, **__: None  # type: ignore[method-assign]
    recovery.recover("the disk died")
    assert place.start().version == ring.version + 1
    place.restore(backup)
    with pytest.raises(OlderRing, match=f"version {ring.version + 1} "):
        place.start()


def test_recovery_works_with_keys_that_are_slow_to_open(place: Place) -> None:
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


def test_the_ring_of_a_lost_database_is_restored_into_a_new_one(place: Place, tmp_path: Path) -> None:
    ring = place.rotate()
    place.database.close()
    for path in tmp_path.glob("issuer.db*"):
        path.unlink()
    place.database = place._opened()
    with pytest.raises(OlderRing, match="no key ring in the database"):
        place.start()
    place.recovery.recover("the disk died")
    assert place.start().keys == ring.keys


def test_of_two_operators_who_recover_at_the_same_time_one_does(place: Place) -> None:
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


def test_a_lost_private_key_stops_a_recovery_unless_the_check_is_skipped(place: Place) -> None:
    backup = place.back_up()
    current = place.rotate().current(place.clock()).kid
    place.restore(backup)
    place.signer().destroy(current)
    with pytest.raises(KeyUnavailable, match=current):
        place.recovery.recover("the disk died")
    place.recovery.recover("the disk died", skip_open_check=True)
    assert place.rotation.ring().current(place.clock()).kid == current


def test_a_running_process_refuses_an_older_ring_and_follows_the_recovery(
    place: Place,
) -> None:
    backup = place.back_up()
    place.rotate()
    _, node = place.node()
    seen = node.refresh()
    place.restore(backup)
    node._rotation._store = RingStore(place.database)
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
