"""Changes of the ring that are interrupted, suspended or overtaken: no key is lost, and none is left behind."""

from pathlib import Path
from typing import Any

import pytest
from support.defaults import MovableClock
from support.ring_nodes import FAST, files, kids, node_on, rotation, signer

from issuer.database.database import Database
from issuer.errors import KeyUnavailable, OlderRing
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.public_key import PublicKey


class Stopped(BaseException):
    """The process ends here, as after SIGKILL."""


class StopsBefore:
    """A signer whose process ends right before one of its steps."""

    def __init__(self, real: PemSigner, step: str) -> None:
        self._real = real
        self._step = step

    def __getattr__(self, name: str) -> object:
        if name == self._step:
            raise Stopped
        return getattr(self._real, name)


class StopsAfterSaving(RingStore):
    """A store whose process ends, or whose connection is lost, right after the ring was saved."""

    def save(self, *change: Any, **options: Any) -> KeyRing | None:
        super().save(*change, **options)
        raise Stopped


@pytest.mark.parametrize("stopped_in", ["generate", "save"])
def test_a_process_that_was_suspended_before_its_save_decides_again(
    database: Database, keys: Path, clock: MovableClock, stopped_in: str
) -> None:
    rotation(database, keys, clock).reconcile()
    pauses = iter([3600.0])

    class PausedSigner(PemSigner):
        def generate(self, alg: str) -> PublicKey:
            if stopped_in == "generate":
                clock.advance(seconds=next(pauses, 0))
            return super().generate(alg)

    class PausedStore(RingStore):
        def save(self, *change: Any, **options: Any) -> KeyRing | None:
            if stopped_in == "save":
                clock.advance(seconds=next(pauses, 0))
            return super().save(*change, **options)

    signer = PausedSigner(PemDirectory(keys), lambda: "passphrase")
    began = clock()
    stopped = Rotation(PausedStore(database), signer, FAST, clock, "tests")
    ring = stopped.change(lambda ring, now: ring.promoted(FAST, now))
    assert clock() > began
    assert ring.version == 2
    assert ring.current(clock()).activates_at == clock()
    assert ring.standbys(clock())[0].published_at == clock()
    assert files(keys) == kids(ring)


def test_a_process_suspended_after_it_loaded_the_ring_destroys_no_key_that_signs_again(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    operator = rotation(database, keys, clock)
    first = operator.reconcile().current(clock()).kid
    clock.advance(hours=1)
    operator.change(lambda ring, now: ring.promoted(FAST, now))
    clock.advance(seconds=1)
    moves = [lambda ring, now: ring.rolled_back(FAST, now)]

    class Paused(RingStore):
        """Its process is stopped for as long as the previous key was to stay in the ring that it saw."""

        def load(self) -> KeyRing | None:
            seen = super().load()
            if moves:
                operator.change(moves.pop())
                clock.advance(minutes=12)
            return seen

    Rotation(Paused(database), signer(keys), FAST, clock, "tests").reconcile()
    ring = operator.ring()
    assert ring.current(clock()).kid == first
    assert files(keys) == kids(ring)


def test_private_keys_without_a_ring_prevent_a_start_and_nothing_is_made(
    database: Database, keys: Path, clock: MovableClock, tmp_path: Path
) -> None:
    rotation(database, keys, clock).reconcile()
    before = files(keys)
    lost = Database(f"sqlite:///{tmp_path}/another.db")
    lost.migrate()
    with pytest.raises(OlderRing, match="no key ring in the database"):
        rotation(lost, keys, clock).reconcile()
    (keys / CHECKPOINT).unlink()
    with pytest.raises(KeyUnavailable, match="2 private keys but no key ring"):
        rotation(lost, keys, clock).reconcile()
    lost.close()
    assert files(keys) == before


def test_a_ring_without_its_private_keys_prevents_a_start_and_no_key_is_made(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    for path in keys.iterdir():
        path.unlink()
    _, node = node_on(database, keys, clock)
    with pytest.raises(KeyUnavailable, match=ring.current(clock()).kid):
        node.refresh()
    assert files(keys) == set()


@pytest.mark.parametrize("step", ["generate", "keep"])
def test_a_crash_while_a_ring_is_created_is_completed_by_the_next_start(
    database: Database, keys: Path, clock: MovableClock, step: str
) -> None:
    stops = Rotation(RingStore(database), StopsBefore(signer(keys), step), FAST, clock, "tests")  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        stops.reconcile()
    ring = rotation(database, keys, clock).reconcile()
    assert files(keys) == kids(ring)


def test_a_crash_right_after_a_save_loses_no_key(database: Database, keys: Path, clock: MovableClock) -> None:
    rotation(database, keys, clock).reconcile()
    clock.advance(days=30)
    with pytest.raises(Stopped):
        Rotation(StopsAfterSaving(database), signer(keys), FAST, clock, "tests").reconcile()
    saved = rotation(database, keys, clock).ring()
    _, node = node_on(database, keys, clock)
    assert node.refresh().ring == saved
    assert files(keys) == kids(saved)


def test_a_crash_before_a_revoked_private_key_is_destroyed_is_completed_later(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    kid = ring.standbys(clock())[0].kid
    stops = Rotation(RingStore(database), StopsBefore(signer(keys), "destroy"), FAST, clock, "tests")  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        stops.change(lambda ring, now: ring.revoked(kid, "unwanted", FAST, now))
    ring = rotation(database, keys, clock).reconcile()
    assert files(keys) == kids(ring)


def test_a_fresh_key_is_destroyed_when_a_change_comes_too_late(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    rotation(database, keys, clock).reconcile()
    clock.advance(days=30)

    class Overtaken(PemSigner):
        def generate(self, alg: str) -> PublicKey:
            rotation(database, keys, clock).reconcile()
            return super().generate(alg)

    late = Rotation(
        RingStore(database), Overtaken(PemDirectory(keys), lambda: "passphrase"), FAST, clock, "tests"
    )
    ring = late.reconcile()
    assert len(ring.keys) == 3
    assert files(keys) == kids(ring)


def test_a_key_that_another_operator_destroys_meanwhile_does_not_prevent_an_emergency(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    current, standby = ring.current(clock()).kid, ring.standbys(clock())[0].kid
    others = [lambda ring, now: ring.revoked(standby, "stolen, too", FAST, now)]

    class Meanwhile(PemSigner):
        def load(self, kid: str, alg: str) -> None:
            if others:
                rotation(database, keys, clock).change(others.pop(), emergency=True)
            super().load(kid, alg)

    mine = Rotation(
        RingStore(database), Meanwhile(PemDirectory(keys), lambda: "passphrase"), FAST, clock, "me"
    )
    after = mine.change(lambda ring, now: ring.revoked(current, "stolen", FAST, now), emergency=True)
    assert {key.kid for key in after.keys if key.revoked_at} == {current, standby}
    assert files(keys) == kids(after)
