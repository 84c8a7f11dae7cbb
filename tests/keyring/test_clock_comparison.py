"""The clock of a machine compared with that of the database."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.defaults import MovableClock
from support.postgresql import new_database
from support.ring_nodes import FAST, node_on, rotation

from issuer.checks.finding import Severity
from issuer.checks.ring import clock as clock_findings
from issuer.database.database import Database
from issuer.errors import WrongClock
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import PemDirectory


def test_nothing_is_decided_by_a_clock_that_is_far_from_that_of_the_database(
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


def test_operators_are_warned_of_clock_differences_that_verifiers_may_not_tolerate(
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
        assert node.failure is None  # it continues its work
        assert [says in each for each in node.warnings()] == [True] * bool(says)
        findings = list(clock_findings(rotation))
        assert [each.severity for each in findings] == [Severity.WARNING] * bool(says)


def test_the_time_of_a_slow_query_does_not_count_as_a_clock_difference(
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
