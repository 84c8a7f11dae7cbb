"""What each process that serves does every second: it takes up the ring, says so, and says what is wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from given import MovableClock
from sqlalchemy import text
from test_keyring import DAY, SECOND
from test_rotation import FAST

from issuer.keeping import Node
from issuer.keyring import KeyUnavailable
from issuer.nodes import Heartbeat, refused_from, silent, waited_for
from issuer.policy import Policy
from issuer.rotation import Rotation
from issuer.signing.directory import PemDirectory
from issuer.signing.pem import PemSigner
from issuer.store.database import Database, DatabaseUnavailable
from issuer.store.heartbeats import HeartbeatStore
from issuer.store.ring import RingStore

Judge = Callable[[tuple[Heartbeat, ...], int, Policy, datetime], list[Heartbeat]]


@dataclass
class Site:
    """One database and directory of keys, and the processes that use them."""

    database: Database
    keys: Path
    clock: MovableClock

    def node(self, name: str, policy: Policy = FAST) -> Node:
        signer = PemSigner(PemDirectory(self.keys), lambda: "passphrase")
        rotation = Rotation(RingStore(self.database), signer, policy, self.clock, name)
        return Node(rotation, signer, self.heartbeats, policy, self.clock, name)

    def rotation(self) -> Rotation:
        signer = PemSigner(PemDirectory(self.keys), lambda: "passphrase")
        return Rotation(RingStore(self.database), signer, FAST, self.clock, "operator")

    @property
    def heartbeats(self) -> HeartbeatStore:
        return HeartbeatStore(self.database)

    def beats(self) -> dict[str, int]:
        return {beat.name: beat.version for beat in self.heartbeats.all()}


@pytest.fixture
def site(tmp_path: Path, clock: MovableClock) -> Iterator[Site]:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    yield Site(database, tmp_path / "keys", clock)
    database.close()


def test_a_process_acknowledges_the_version_that_it_has_taken_up(site: Site) -> None:
    node, other = site.node("a"), site.node("b")
    node.refresh()
    other.refresh()
    site.clock.advance(seconds=1)
    ring = site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    node.refresh()
    assert site.beats() == {"a": ring.version, "b": ring.version - 1}
    assert node.view.ring == ring


def test_a_process_tells_that_it_lives_though_nothing_changes_and_writes_no_more_often(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    seen = []
    for _ in range(20):
        site.clock.advance(seconds=1)
        node.refresh()
        seen.append(site.heartbeats.all()[0].refreshed_at)
    assert len(set(seen)) == 3
    assert site.clock() - seen[-1] < FAST.heartbeat_interval


def test_a_process_that_leaves_is_waited_for_no_more(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    node.leave()
    assert site.beats() == {}


def test_a_process_that_starts_forgets_those_of_which_nothing_can_be_alive(site: Site) -> None:
    site.node("killed").refresh()
    (beat,) = site.heartbeats.all()
    site.clock.now = beat.published_until(FAST)
    site.node("b").refresh()
    assert site.beats().keys() == {"killed", "b"}
    site.clock.advance(seconds=1)
    site.node("c").refresh()
    assert site.beats().keys() == {"b", "c"}


def test_a_process_that_cannot_tell_that_it_lives_grows_as_old_as_its_last_word(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    told_at = site.clock()
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE heartbeats RENAME TO elsewhere"))
    site.clock.advance(seconds=FAST.heartbeat_interval.total_seconds())
    with pytest.raises(DatabaseUnavailable):
        node.refresh()
    assert node.view.refreshed_at == told_at


def test_a_revocation_is_waited_for_and_told_from_when_it_holds(site: Site) -> None:
    node, stopped = site.node("a"), site.node("stopped")
    node.refresh()
    stopped.refresh()
    stopped_at = site.clock()
    site.clock.advance(seconds=1)
    kid = node.view.ring.current(site.clock()).kid
    ring = site.rotation().change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))

    def missing(judge: Judge) -> list[str]:
        return [beat.name for beat in judge(site.heartbeats.all(), ring.version, FAST, site.clock())]

    assert sorted(missing(waited_for)) == ["a", "stopped"]
    node.refresh()
    assert missing(waited_for) == ["stopped"]
    lasting = stopped_at + FAST.heartbeat_interval + FAST.outage_limit + FAST.max_age + FAST.clock_skew
    assert refused_from(site.heartbeats.all(), ring.version, FAST, site.clock()) == lasting
    site.clock.advance(minutes=2)
    assert (missing(waited_for), missing(silent)) == ([], ["stopped"])
    stopped.refresh()
    now = site.clock()
    assert (missing(waited_for), missing(silent)) == ([], [])
    assert (
        refused_from(site.heartbeats.all(), ring.version, FAST, now) == now + FAST.max_age + FAST.clock_skew
    )


def test_a_standby_that_does_not_open_stops_a_start_but_not_a_process_that_runs(site: Site) -> None:
    node = site.node("a")
    standby = node.refresh().ring.standbys(site.clock())[0]
    current = node.view.ring.current(site.clock())
    site.clock.advance(days=1)
    other = site.rotation().change(lambda ring, now: ring.promoted(FAST, now)).standbys(site.clock())[0]
    (site.keys / f"{other.kid}.pem").write_text("damaged")
    view = node.refresh()
    assert view.signing_key(FAST, site.clock()).kid == standby.kid
    assert other.kid in {key.kid for key in view.published_keys()}
    assert node.trouble is not None
    assert other.kid in node.trouble.reason
    assert current.kid not in node.trouble.reason
    (warning,) = node.warnings()
    assert "rewrap" in warning
    with pytest.raises(KeyUnavailable, match=other.kid):
        site.node("starting").refresh()


def test_a_failing_refresh_is_told_since_when_and_over_when_it_is_over(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    site.clock.advance(days=30)
    began = site.clock()
    site.keys.chmod(0o755)
    for _ in range(2):
        with pytest.raises(KeyUnavailable):
            node.refresh()
        site.clock.advance(seconds=1)
    assert node.failures == 2
    assert node.trouble is not None
    assert (node.trouble.since, "chmod 700" in node.trouble.reason) == (began, True)
    assert len(node.warnings()) == 2  # and no standby, in the view as it is
    site.keys.chmod(0o700)
    node.refresh()
    assert (node.trouble, node.warnings()) == (None, [])


def test_an_overdue_rotation_is_told(site: Site) -> None:
    monthly, late = site.node("a"), site.node("b", replace(FAST, rotation_period=10 * DAY))
    late.refresh()
    monthly.refresh()  # the last to start sets the turn
    late.refresh()
    site.clock.advance(days=11)
    assert any("overdue" in warning for warning in late.warnings())
    assert monthly.warnings() == []


def test_a_new_rotation_period_counts_when_a_process_starts_and_nodes_do_not_overrule_each_other(
    site: Site,
) -> None:
    node = site.node("a")
    node.refresh()
    weekly = site.node("b", replace(FAST, rotation_period=7 * DAY))
    ring = weekly.refresh().ring
    assert ring.standbys(site.clock())[0].activates_at == site.clock() + 7 * DAY
    for _ in range(3):
        site.clock.advance(seconds=1)
        assert node.refresh().ring == weekly.refresh().ring == ring


def test_a_public_key_that_somebody_put_into_the_ring_is_not_published(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    forged = replace(ring.keys[1], jwk={**ring.keys[1].jwk, "x": ring.keys[0].jwk["x"]})
    RingStore(site.database).save(replace(ring, version=2, keys=(ring.keys[0], forged)))
    site.clock.advance(seconds=1)
    with pytest.raises(KeyUnavailable, match="somebody changed it"):
        node.refresh()
    assert node.view.ring == ring


@pytest.mark.parametrize("clock_is_behind_by", [timedelta(0), SECOND, 29 * SECOND])
def test_an_operator_whose_clock_is_behind_still_goes_back_to_the_previous_key(
    site: Site, clock_is_behind_by: timedelta
) -> None:
    ring = site.rotation().reconcile()
    first = ring.current(site.clock()).kid
    site.clock.advance(hours=1)
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    site.clock.now -= clock_is_behind_by
    after = site.rotation().change(lambda ring, now: ring.rolled_back(FAST, now))
    site.clock.now += clock_is_behind_by
    assert after.current(site.clock()).kid == first
