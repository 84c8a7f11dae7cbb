"""Reconcile and the operations of operators, as they are performed on a database and private keys.

Interrupted changes are tested in `test_interruptions`.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from support.defaults import MovableClock
from support.ring_nodes import FAST, files, kids, node_on, rotation, signer

from issuer.database.database import Database
from issuer.errors import KeyUnavailable, NoRing, Refused, StaleView
from issuer.keyring.ring import KeyRing, Phase
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory


def test_the_first_reconcile_creates_a_ring_and_the_next_changes_nothing(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    assert [ring.phase(key, clock()) for key in ring.keys] == [Phase.CURRENT, Phase.STANDBY]
    assert files(keys) == kids(ring)
    assert rotation(database, keys, clock).reconcile() == ring


def test_eight_processes_on_an_empty_database_create_one_ring_and_leave_no_other_key(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: rotation(database, keys, clock).reconcile(), range(8)))
    assert all(ring == rings[0] for ring in rings)
    assert files(keys) == kids(rings[0])


def test_a_process_that_creates_a_ring_too_late_uses_the_ring_of_the_other(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    class Slow(RingStore):
        """Another process founds the ring right after this one saw that there is none."""

        def load(self) -> KeyRing | None:
            ring = super().load()
            if ring is None:
                rotation(database, keys, clock).reconcile()
            return ring

    ring = Rotation(Slow(database), signer(keys), FAST, clock, "tests").reconcile()
    assert ring.version == 1
    assert files(keys) == kids(ring)


def test_of_two_operators_who_rotate_at_the_same_time_one_is_refused(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    rotation(database, keys, clock).reconcile()
    clock.advance(days=2)

    def rotate(_number: int) -> KeyRing | Refused:
        try:
            return rotation(database, keys, clock).change(lambda ring, now: ring.promoted(FAST, now))
        except Refused as refusal:
            return refusal

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(rotate, range(2)))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyRing", "Refused"]
    ring = rotation(database, keys, clock).ring()
    assert len(ring.keys) == 3
    assert files(keys) == kids(ring)


def test_a_scheduled_rotation_publishes_a_new_standby_and_later_destroys_the_retired_key(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    performs = rotation(database, keys, clock)
    first = performs.reconcile().current(clock())
    clock.advance(days=30)
    ring = performs.reconcile()
    assert [ring.phase(key, clock()) for key in ring.keys] == [
        Phase.PREVIOUS,
        Phase.CURRENT,
        Phase.STANDBY,
    ]
    clock.advance(minutes=12)
    ring = performs.reconcile()
    assert first.kid not in {key.kid for key in ring.keys}
    assert files(keys) == kids(ring)


def test_revoking_destroys_the_private_key_and_publishes_a_new_standby_in_one_save(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    performs = rotation(database, keys, clock)
    before = performs.reconcile()
    kid = before.current(clock()).kid
    after = performs.change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))
    assert after.version == before.version + 1
    assert after.current(clock()).kid == before.standbys(clock())[0].kid
    assert len(after.standbys(clock())) == 1
    assert files(keys) == kids(after)


def test_a_current_key_can_be_revoked_even_when_the_standby_was_late(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    performs = rotation(database, keys, clock)
    performs.reconcile()
    clock.advance(days=31)  # the standby became current, and nobody was there to publish the next
    kid = performs.ring().current(clock()).kid
    ring = performs.change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))
    assert ring.phase(ring.find(kid), clock()) is Phase.REVOKED
    assert len(ring.standbys(clock())) == 1
    assert files(keys) == kids(ring)


def test_a_refused_operation_changes_neither_ring_nor_keys(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    performs = rotation(database, keys, clock)
    performs.reconcile()
    ring = performs.change(lambda ring, now: ring.promoted(FAST, now))
    before = files(keys)
    with pytest.raises(Refused):
        performs.change(lambda ring, now: ring.promoted(FAST, now))
    assert performs.ring() == ring
    assert files(keys) == before


@pytest.mark.parametrize("mishap", ["another passphrase", "no passphrase", "another directory"])
@pytest.mark.parametrize("move", ["rotate", "revoke", "reconcile"])
def test_a_process_that_cannot_open_the_keys_changes_nothing(
    database: Database, keys: Path, clock: MovableClock, mishap: str, move: str
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    before = files(keys)
    passphrase = {"another passphrase": "another", "no passphrase": None}.get(mishap, "passphrase")
    place = keys.with_name("elsewhere") if mishap == "another directory" else keys
    stranger = Rotation(
        RingStore(database), PemSigner(PemDirectory(place), lambda: passphrase), FAST, clock, "tests"
    )
    moves = {
        "rotate": lambda ring, now: ring.promoted(FAST, now),
        "revoke": lambda ring, now: ring.revoked(ring.current(now).kid, "why", FAST, now),
    }
    if move == "reconcile":
        clock.advance(days=31)
    if move == "reconcile":  # the others do it
        assert stranger.reconcile() == ring
        assert stranger.generation_error is not None
    else:
        with pytest.raises(KeyUnavailable):
            stranger.change(moves[move], emergency=move == "revoke")
    assert rotation(database, keys, clock).ring() == ring
    assert files(keys) == before
    assert not place.exists() or files(place) == (before if place == keys else set())


def test_a_current_key_whose_private_key_is_lost_can_be_revoked(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    kid = ring.current(clock()).kid
    (keys / f"{kid}.pem").unlink()
    after = rotation(database, keys, clock).change(lambda ring, now: ring.revoked(kid, "lost", FAST, now))
    assert after.current(clock()).kid == ring.standbys(clock())[0].kid


def test_a_lost_current_key_can_be_revoked_even_when_the_standby_was_late(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    rotation(database, keys, clock).reconcile()
    clock.advance(days=31)
    performs = rotation(database, keys, clock)
    kid = performs.ring().current(clock()).kid
    (keys / f"{kid}.pem").unlink()
    after = performs.change(lambda ring, now: ring.revoked(kid, "lost", FAST, now))
    assert after.phase(after.find(kid), clock()) is Phase.REVOKED
    assert files(keys) == kids(after)


def test_an_operation_does_not_create_a_ring(database: Database, keys: Path, clock: MovableClock) -> None:
    with pytest.raises(NoRing):
        rotation(database, keys, clock).change(lambda ring, now: ring.promoted(FAST, now))
    assert not keys.exists()


def test_a_node_applies_a_change_as_a_whole_and_can_sign_with_every_standby(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    holder, node = node_on(database, keys, clock)
    with pytest.raises(StaleView):
        _ = node.view
    node.refresh()
    operator = rotation(database, keys, clock)
    operator.change(lambda ring, now: ring.promoted(FAST, now))
    old = node.view.signing_key(FAST, clock())
    clock.advance(seconds=1)
    new = node.refresh().signing_key(FAST, clock())
    assert new.kid != old.kid
    assert holder.sign(new.kid, b"data")
    node.refresh()
    with pytest.raises(KeyUnavailable, match="not loaded"):
        holder.sign(old.kid, b"data")
    clock.advance(seconds=(FAST.node_timeout + timedelta(seconds=1)).total_seconds())
    with pytest.raises(StaleView):
        node.view.signing_key(FAST, clock())
