"""What each process that serves does every second: it takes up the ring, says so, and says what is wrong."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from keyring.test_ring import DAY, SECOND
from keyring.test_rotation import FAST
from pydantic import TypeAdapter
from sqlalchemy import text, update
from support.defaults import MovableClock

from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable
from issuer.errors import KeyUnavailable, OlderRing
from issuer.keyring.heartbeat import Acknowledgement, Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, key_ring
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.public_key import PublicKey


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

    def acknowledged(self, version: int) -> Acknowledgement:
        return Acknowledgement.of(self.heartbeats.all(), version, FAST, self.clock())

    def beats(self) -> dict[str, int]:
        return {beat.name: beat.version for beat in self.heartbeats.all()}


@pytest.fixture
def site(database: Database, keys: Path, clock: MovableClock) -> Site:
    return Site(database, keys, clock)


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


def test_a_process_that_leaves_is_waited_for_no_more_but_what_it_served_lives_on(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    node.leave()
    told = site.acknowledged(2)
    assert (told.done, told.waiting, told.silent) == ((), (), ())
    assert told.refused_from == site.clock() + FAST.max_age + FAST.clock_skew
    longer = site.node("b", replace(FAST, max_age=timedelta(hours=2)))
    longer.refresh()
    longer.leave()
    assert site.acknowledged(2).refused_from == site.clock() + timedelta(hours=2) + FAST.clock_skew


def test_those_of_which_nothing_can_be_alive_are_forgotten(site: Site) -> None:
    site.node("killed").refresh()
    (beat,) = site.heartbeats.all()
    site.clock.now = beat.served_until + FAST.clock_skew
    other = site.node("b")
    other.refresh()
    assert site.beats().keys() == {"killed", "b"}
    site.clock.advance(minutes=1)
    other.refresh()
    assert site.beats().keys() == {"b"}


def test_a_revocation_waits_for_a_process_that_is_starting(site: Site) -> None:
    site.rotation().reconcile()
    node = site.node("a")
    seen: list[int] = []

    def slow(kid: str, alg: str) -> None:
        seen.extend(site.beats().values())
        PemSigner.load(node._signer, kid, alg)  # type: ignore[arg-type]

    node._signer.load = slow  # type: ignore[method-assign]
    node.refresh()
    assert seen[0] == 0
    assert site.beats() == {"a": 1}


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

    def names(beats: tuple[Heartbeat, ...]) -> list[str]:
        return sorted(beat.name for beat in beats)

    assert names(site.acknowledged(ring.version).waiting) == ["a", "stopped"]
    node.refresh()
    told = site.acknowledged(ring.version)
    assert (names(told.done), names(told.waiting), names(told.silent)) == (["a"], ["stopped"], ["stopped"])
    lasting = stopped_at + FAST.heartbeat_interval + FAST.outage_limit + FAST.max_age + FAST.clock_skew
    assert told.refused_from == lasting
    site.clock.advance(minutes=2)
    told = site.acknowledged(ring.version)
    assert (names(told.waiting), names(told.silent)) == ([], ["stopped"])
    stopped.refresh()
    told = site.acknowledged(ring.version)
    assert (names(told.done), names(told.waiting), names(told.silent)) == (["a", "stopped"], [], [])
    assert told.refused_from == site.clock() + FAST.max_age + FAST.clock_skew


def test_a_revocation_waits_for_a_process_that_comes_back_from_silence(site: Site) -> None:
    node = site.node("a")
    stolen = node.refresh().ring.current(site.clock()).kid
    site.clock.advance(hours=3)
    assert site.acknowledged(2).done == site.acknowledged(2).silent == ()
    version = node.view.ring.version
    reconcile = node._rotation.reconcile

    def revoked_meanwhile(*, starting: bool = False) -> KeyRing:
        seen = reconcile(starting=starting)
        site.rotation().change(lambda ring, now: ring.revoked(stolen, "stolen", FAST, now))
        assert [beat.name for beat in site.acknowledged(version + 1).waiting] == ["a"]
        return seen

    node._rotation.reconcile = revoked_meanwhile  # type: ignore[method-assign]
    node.refresh()


def test_a_standby_that_does_not_open_stops_a_start_but_not_a_process_that_runs(site: Site) -> None:
    node = site.node("a")
    standby = node.refresh().ring.standbys(site.clock())[0]
    site.clock.advance(days=1)
    other = site.rotation().change(lambda ring, now: ring.promoted(FAST, now)).standbys(site.clock())[0]
    (site.keys / f"{other.kid}.pem").write_text("damaged")
    view = node.refresh()
    assert view.signing_key(FAST, site.clock()).kid == standby.kid
    assert other.kid in {key.kid for key in view.published_keys}
    (warning,) = node.warnings()
    assert other.kid in warning
    assert "rewrap" in warning
    assert "rewrap" not in node.warnings(in_detail=False)[0]
    with pytest.raises(KeyUnavailable, match=other.kid):
        site.node("starting").refresh()


def test_a_process_that_cannot_open_the_new_current_key_signs_no_more_but_publishes_what_the_ring_says(
    site: Site,
) -> None:
    passphrases = ["passphrase"]
    signer = PemSigner(PemDirectory(site.keys), lambda: passphrases[0])
    rotation = Rotation(RingStore(site.database), signer, FAST, site.clock, "a")
    node = Node(rotation, signer, site.heartbeats, FAST, site.clock, "a")
    stolen = node.refresh().ring.current(site.clock()).kid
    PemSigner(PemDirectory(site.keys), lambda: "passphrase").rewrap("new")
    operator = PemSigner(PemDirectory(site.keys), lambda: "new")
    moves = Rotation(RingStore(site.database), operator, FAST, site.clock, "operator")
    for _ in range(2):  # the second successor is one that the node never opened
        current = moves.ring().current(site.clock()).kid
        moves.change(lambda ring, now, kid=current: ring.revoked(kid, "stolen", FAST, now))  # type: ignore[misc]
        site.clock.advance(seconds=1)
    view = node.refresh()
    assert stolen not in {key.kid for key in view.published_keys}
    assert site.beats()["a"] == moves.ring().version
    with pytest.raises(KeyUnavailable, match="cannot be opened on this node"):
        view.signing_key(FAST, site.clock())
    passphrases[0] = "new"
    assert node.refresh().signing_key(FAST, site.clock())
    assert node.warnings() == []


def test_a_process_that_can_make_no_key_goes_on_signing_and_publishing_and_says_so(site: Site) -> None:
    node = site.node("a")
    standby = node.refresh().ring.standbys(site.clock())[0]
    site.clock.advance(days=30)
    site.keys.chmod(0o755)
    for _ in range(40):
        node.refresh()
        site.clock.advance(seconds=1)
    began = site.clock() - timedelta(seconds=40)
    assert node.view.signing_key(FAST, site.clock()).kid == standby.kid
    assert node.failure is not None
    assert (node.failure.since, "chmod 700" in node.failure.reason) == (began, True)
    assert any("1 of 1 standby keys are missing" in warning for warning in node.warnings())
    site.keys.chmod(0o700)
    site.clock.advance(seconds=10)
    node.refresh()
    assert (node.failure, node.warnings()) == (None, [])


def test_an_emergency_does_not_wait_for_a_new_standby(site: Site) -> None:
    ring = site.rotation().reconcile()
    stolen = ring.current(site.clock()).kid
    operator = site.rotation()
    operator._signer.generate = unable  # type: ignore[method-assign]
    after = operator.change(lambda ring, now: ring.revoked(stolen, "stolen", FAST, now), emergency=True)
    assert after.current(site.clock()).kid == ring.standbys(site.clock())[0].kid
    assert after.standbys(site.clock()) == ()
    assert operator.generation_error is not None


def unable(alg: str) -> PublicKey:
    raise KeyUnavailable(f"no space left for {alg}")


def test_a_revocation_counts_though_the_private_keys_are_out_of_reach(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    stolen = ring.current(site.clock()).kid
    site.clock.advance(seconds=1)
    away = site.keys.rename(site.keys.with_name("away"))
    site.keys.write_text("no directory")
    operator = site.rotation()
    after = operator.change(
        lambda ring, now: ring.revoked(stolen, "stolen", FAST, now), emergency=True, skip_open_check=True
    )
    assert stolen in operator.private_keys.destruction_errors
    view = node.refresh()
    assert stolen not in {key.kid for key in view.published_keys}
    assert site.beats()["a"] == after.version
    assert any("ISSUER_KEYS" in warning for warning in node.warnings())
    site.keys.unlink()
    away.rename(site.keys)
    site.clock.advance(seconds=11)
    node.refresh()
    assert f"{stolen}.pem" not in {path.name for path in site.keys.iterdir()}
    assert node.view.signing_key(FAST, site.clock())
    assert node.warnings() == []


def test_a_current_key_that_cannot_sign_any_more_is_noticed_without_a_request(site: Site) -> None:
    node = site.node("a")
    node.refresh()

    def away(kid: str, data: bytes) -> bytes:
        raise KeyUnavailable(f"the token with {kid} was pulled out")

    sign = node._signer.sign
    node._signer.sign = away  # type: ignore[method-assign]
    site.clock.advance(seconds=1)
    view = node.refresh()
    assert any("pulled out" in warning for warning in node.warnings())
    with pytest.raises(KeyUnavailable):
        view.signing_key(FAST, site.clock())
    node._signer.sign = sign  # type: ignore[method-assign]
    assert node.refresh().signing_key(FAST, site.clock())


def test_a_failing_refresh_is_told_since_when_and_over_when_it_is_over(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE key_ring RENAME TO elsewhere"))
    began = site.clock()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            node.refresh()
        site.clock.advance(seconds=1)
    assert node.failure is not None
    assert node.failure.since == began
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO key_ring"))
    node.refresh()
    assert (node.failure, node.warnings()) == (None, [])


def test_a_ring_that_went_back_is_refused_by_the_processes_that_saw_the_newer_one(site: Site) -> None:
    node = site.node("a")
    older = node.refresh().ring
    site.clock.advance(seconds=1)
    kid = older.standbys(site.clock())[0].kid
    site.rotation().change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))
    node.refresh()
    with site.database.write() as connection:
        document = TypeAdapter(KeyRing).dump_json(older).decode()
        connection.execute(update(key_ring).values(version=older.version, document=document))
    with pytest.raises(OlderRing, match=f"trust keys that were revoked since: {kid}"):
        node.refresh()
    assert kid not in {key.kid for key in node.view.published_keys}


def test_where_nothing_is_noted_a_process_that_saw_the_newer_ring_still_refuses_the_older(site: Site) -> None:
    node = site.node("a")
    older = node.refresh().ring
    site.clock.advance(days=1)
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    seen = node.refresh()
    (site.keys / CHECKPOINT).unlink()
    with site.database.write() as connection:
        document = TypeAdapter(KeyRing).dump_json(older).decode()
        connection.execute(update(key_ring).values(version=older.version, document=document))
    with pytest.raises(DatabaseDamaged, match="went back"):
        node.refresh()
    assert node.view == seen


def test_a_published_key_whose_private_half_is_nowhere_is_told(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    elsewhere = PemSigner(PemDirectory(site.keys.with_name("elsewhere")), lambda: None)
    foreign = replace(ring.keys[0], **vars(elsewhere.generate("ES256")))
    site.clock.advance(seconds=1)
    keys = (replace(foreign, activates_at=ring.changed_at - DAY), *ring.keys)
    RingStore(site.database).save(replace(ring, version=2, keys=keys))
    node.refresh()
    (warning,) = node.warnings()
    assert f"issuer keys revoke {foreign.kid}" in warning


def test_a_refresh_that_hangs_is_told(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    began = site.clock()
    site.clock.advance(seconds=3)
    assert node.failure is None
    site.clock.advance(seconds=1)
    assert node.failure is not None
    assert (node.failure.since, node.warnings()[0].endswith("may hang")) == (began, True)


def test_an_overdue_rotation_is_told(site: Site) -> None:
    monthly, late = site.node("a"), site.node("b", replace(FAST, rotation_period=10 * DAY))
    late.refresh()
    monthly.refresh()  # the last to start sets the turn
    late.refresh()
    site.clock.advance(days=11)
    assert any("overdue" in warning for warning in late.warnings())
    assert not any("overdue" in warning for warning in monthly.warnings())


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
    with pytest.raises(DatabaseDamaged, match="a kid is not the thumbprint of its public key"):
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
