"""Reconcile and moves, as performed: one ring whoever starts, no key lost whatever stops half-way."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from keyring.test_ring import POLICY
from support.defaults import MovableClock
from support.postgresql import new_database

from issuer.audit.chain import Entry
from issuer.checks.finding import Severity
from issuer.checks.ring import clock as clock_findings
from issuer.database.database import Database
from issuer.errors import KeyUnavailable, NoRing, OlderRing, Refused, StaleView, WrongClock
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.ring import KeyRing, Phase
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.public_key import PublicKey

Timely = Callable[[], bool]
FAST = replace(POLICY, algorithm="ES256")


def signer(keys: Path) -> PemSigner:
    return PemSigner(PemDirectory(keys), lambda: "passphrase")


def rotation(database: Database, keys: Path, clock: MovableClock) -> Rotation:
    return Rotation(RingStore(database), signer(keys), FAST, clock, "tests")


def node_on(database: Database, keys: Path, clock: MovableClock) -> tuple[PemSigner, Node]:
    holder = signer(keys)
    performs = Rotation(RingStore(database), holder, FAST, clock, "node a")
    return holder, Node(performs, holder, HeartbeatStore(database), FAST, clock, "a")


def files(keys: Path) -> set[str]:
    return {path.name for path in keys.iterdir() if path.name != CHECKPOINT}


def kids(ring: KeyRing) -> set[str]:
    return {f"{key.kid}.pem" for key in ring.keys if key.revoked_at is None}


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

    def save(
        self, ring: KeyRing, entries: Sequence[Entry] = (), is_timely: Callable[[], bool] = lambda: True
    ) -> KeyRing | None:
        super().save(ring, entries, is_timely)
        raise Stopped


def test_the_first_reconcile_founds_a_ring_and_the_next_changes_nothing(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    assert [ring.phase(key, clock()) for key in ring.keys] == [Phase.CURRENT, Phase.STANDBY]
    assert files(keys) == kids(ring)
    assert rotation(database, keys, clock).reconcile() == ring


def test_eight_processes_on_an_empty_database_found_one_ring_and_leave_no_other_key(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: rotation(database, keys, clock).reconcile(), range(8)))
    assert all(ring == rings[0] for ring in rings)
    assert files(keys) == kids(rings[0])


def test_a_process_that_founds_a_moment_too_late_takes_up_the_ring_of_the_other(
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


def test_of_two_operators_who_rotate_at_once_one_wins_and_the_other_is_told(
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


def test_revoking_destroys_the_private_half_and_publishes_a_new_standby_in_one_save(
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


def test_a_refused_move_leaves_ring_and_keys_alone(
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


def test_a_current_key_whose_private_half_is_lost_can_be_revoked(
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


@pytest.mark.parametrize("stopped_in", ["generate", "save"])
def test_a_process_that_was_stopped_before_it_saved_decides_again(
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
        def save(
            self, ring: KeyRing, entries: Sequence[Entry] = (), is_timely: Callable[[], bool] = lambda: True
        ) -> KeyRing | None:
            if stopped_in == "save":
                clock.advance(seconds=next(pauses, 0))
            return super().save(ring, entries, is_timely)

    signer = PausedSigner(PemDirectory(keys), lambda: "passphrase")
    began = clock()
    stopped = Rotation(PausedStore(database), signer, FAST, clock, "tests")
    ring = stopped.change(lambda ring, now: ring.promoted(FAST, now))
    assert clock() > began
    assert ring.version == 2
    assert ring.current(clock()).activates_at == clock()
    assert ring.standbys(clock())[0].published_at == clock()
    assert files(keys) == kids(ring)


def test_a_process_stopped_right_after_it_looked_destroys_no_key_that_signs_again_by_now(
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


def test_a_move_before_there_is_a_ring_founds_none(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    with pytest.raises(NoRing):
        rotation(database, keys, clock).change(lambda ring, now: ring.promoted(FAST, now))
    assert not keys.exists()


def test_private_keys_without_a_ring_refuse_to_start_and_nothing_is_made(
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


def test_a_ring_whose_private_key_is_gone_refuses_to_start_and_makes_no_other(
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
def test_a_crash_while_founding_leaves_what_the_next_start_completes(
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


def test_a_crash_before_the_private_half_of_a_revoked_key_is_destroyed_is_made_good(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    ring = rotation(database, keys, clock).reconcile()
    kid = ring.standbys(clock())[0].kid
    stops = Rotation(RingStore(database), StopsBefore(signer(keys), "destroy"), FAST, clock, "tests")  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        stops.change(lambda ring, now: ring.revoked(kid, "unwanted", FAST, now))
    ring = rotation(database, keys, clock).reconcile()
    assert files(keys) == kids(ring)


def test_a_node_takes_up_a_change_as_a_whole_and_can_sign_with_every_standby(
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


def test_an_unnamed_key_is_destroyed_when_a_change_comes_too_late(
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


def test_a_key_that_another_operator_destroys_meanwhile_does_not_stop_an_emergency(
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


def test_nobody_decides_by_a_clock_that_is_far_from_that_of_the_database(
    postgresql: str, keys: Path, clock: MovableClock
) -> None:
    shared = Database(new_database(postgresql))
    shared.migrate()
    now = shared.clock()
    assert now is not None
    for wrong in (timedelta(hours=1), -timedelta(hours=1)):
        clock.now = now + wrong
        holder, node = node_on(shared, keys, clock)
        with pytest.raises(WrongClock, match="ISSUER_CLOCK_SKEW"):
            node.refresh()
        with pytest.raises(WrongClock):
            rotation(shared, keys, clock).change(lambda ring, now: ring.promoted(FAST, now))
        assert HeartbeatStore(shared).all() == ()
    assert not keys.exists()
    clock.now = now + FAST.clock_skew
    holder, node = node_on(shared, keys, clock)
    kid = node.refresh().signing_key(FAST, clock()).kid
    assert holder.sign(kid, b"data")
    shared.close()


class SharedClock(RingStore):
    """A database whose clock says `now`, and takes its time to say it."""

    def __init__(self, database: Database, clock: MovableClock) -> None:
        super().__init__(database)
        self.node_clock = clock
        self.ahead, self.takes = timedelta(0), timedelta(0)

    def clock(self) -> datetime:
        says = self.node_clock() - self.ahead
        self.node_clock.now += self.takes
        return says


def test_operators_are_warned_of_clocks_that_verifiers_need_not_allow_for(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    store = SharedClock(database, clock)
    signer = PemSigner(PemDirectory(keys), lambda: "passphrase")
    rotation = Rotation(store, signer, FAST, clock, "me")
    node = Node(rotation, signer, HeartbeatStore(database), FAST, clock, "me")
    for seconds, says in ((0, ""), (5, ""), (6, "ahead of"), (-5, ""), (-6, "behind"), (20, "ahead of")):
        store.ahead = timedelta(seconds=seconds)
        node.refresh()
        assert node._rotation.clocks.ahead == store.ahead
        assert node.failure is None  # it goes on with its work
        assert [says in each for each in node.warnings()] == [True] * bool(says)
        told = list(clock_findings(rotation))
        assert [each.severity for each in told] == [Severity.WARNING] * bool(says)


def test_a_database_that_is_slow_to_tell_its_clock_has_no_wrong_clock(
    database: Database, keys: Path, clock: MovableClock
) -> None:
    store = SharedClock(database, clock)
    store.takes = timedelta(minutes=2)
    rotation = Rotation(store, PemSigner(PemDirectory(keys), lambda: "passphrase"), FAST, clock, "me")
    rotation.clocks.require()
    assert rotation.clocks.ahead == timedelta(0)
    assert rotation.clocks.warning() is None


def test_sqlite_has_no_clock_to_compare_with(database: Database, keys: Path, clock: MovableClock) -> None:
    _, node = node_on(database, keys, clock)
    node.refresh()
    assert node._rotation.clocks.ahead is None
    assert not node.warnings()
