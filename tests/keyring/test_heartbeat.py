"""Heartbeats of nodes: which version each process acknowledges, and for whom a revocation waits."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from support.ring_nodes import FAST, Site

from issuer.database.errors import DatabaseUnavailable
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.ring import KeyRing
from issuer.signing.pem import PemSigner


def test_a_process_acknowledges_the_version_that_it_loaded(site: Site) -> None:
    node, other = site.node("a"), site.node("b")
    node.refresh()
    other.refresh()
    site.clock.advance(seconds=1)
    ring = site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    node.refresh()
    assert site.beats() == {"a": ring.version, "b": ring.version - 1}
    assert node.view.ring == ring


def test_a_process_sends_a_heartbeat_once_in_an_interval_if_nothing_changes(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    seen = []
    for _ in range(20):
        site.clock.advance(seconds=1)
        node.refresh()
        seen.append(site.heartbeats.all()[0].refreshed_at)
    assert len(set(seen)) == 3
    assert site.clock() - seen[-1] < FAST.heartbeat_interval


def test_a_process_that_ended_is_not_waited_for_but_its_key_sets_stay_in_caches(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    node.leave()
    found = site.acknowledged(2)
    assert (found.done, found.waiting, found.silent) == ((), (), ())
    assert found.refused_from == site.clock() + FAST.max_age + FAST.clock_skew
    longer = site.node("b", replace(FAST, max_age=timedelta(hours=2)))
    longer.refresh()
    longer.leave()
    assert site.acknowledged(2).refused_from == site.clock() + timedelta(hours=2) + FAST.clock_skew


def test_heartbeats_are_deleted_once_their_key_sets_have_expired(site: Site) -> None:
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


def test_a_view_is_no_newer_than_the_last_heartbeat_that_was_sent(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    told_at = site.clock()
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE heartbeats RENAME TO elsewhere"))
    site.clock.advance(seconds=FAST.heartbeat_interval.total_seconds())
    with pytest.raises(DatabaseUnavailable):
        node.refresh()
    assert node.view.refreshed_at == told_at


def test_a_revocation_waits_for_running_processes_and_reports_when_the_key_is_refused(site: Site) -> None:
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
    found = site.acknowledged(ring.version)
    assert (names(found.done), names(found.waiting), names(found.silent)) == (["a"], ["stopped"], ["stopped"])
    lasting = stopped_at + FAST.heartbeat_interval + FAST.outage_limit + FAST.max_age + FAST.clock_skew
    assert found.refused_from == lasting
    site.clock.advance(minutes=2)
    found = site.acknowledged(ring.version)
    assert (names(found.waiting), names(found.silent)) == ([], ["stopped"])
    stopped.refresh()
    found = site.acknowledged(ring.version)
    assert (names(found.done), names(found.waiting), names(found.silent)) == (["a", "stopped"], [], [])
    assert found.refused_from == site.clock() + FAST.max_age + FAST.clock_skew


def test_a_revocation_waits_for_a_process_that_responds_again(site: Site) -> None:
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
