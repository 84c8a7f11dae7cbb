"""What a node may do with its view, and what others conclude from its heartbeats, one by one.

The ring is tested in `test_ring`, all of it over time in `test_promises_over_time`.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.example_rings import DAY, POLICY, SECOND, START, new_ring, rotated

from issuer.errors import KeyUnavailable, StaleView
from issuer.keyring.heartbeat import Acknowledgement, Heartbeat
from issuer.keyring.ring import KeyRing
from issuer.keyring.view import View

SKEW = POLICY.clock_skew
SIGNS = POLICY.heartbeat_interval + POLICY.node_timeout + SKEW
PUBLISHES = POLICY.heartbeat_interval + POLICY.publish_without_database + POLICY.max_age + SKEW


def beat(version: int) -> Heartbeat:
    return Heartbeat.of(f"process-{version}", "other", version, POLICY, START)


def view_of(ring: KeyRing, refreshed_at: datetime) -> View:
    return View(ring, refreshed_at, opened=frozenset(key.kid for key in ring.keys))


def test_a_key_that_cannot_be_opened_on_this_node_does_not_sign_and_is_published() -> None:
    view = View(new_ring(), START, opened=frozenset("b"))
    with pytest.raises(KeyUnavailable, match="a cannot be opened"):
        view.signing_key(POLICY, START)
    assert [key.kid for key in view.published_keys] == ["a", "b"]


def test_a_node_that_has_not_seen_the_ring_for_the_node_timeout_stops_signing() -> None:
    view = view_of(new_ring(), refreshed_at=START)
    assert view.signing_key(POLICY, START + POLICY.node_timeout).kid == "a"
    with pytest.raises(StaleView, match="ISSUER_NODE_TIMEOUT"):
        view.signing_key(POLICY, START + POLICY.node_timeout + SECOND)


def test_a_node_signs_with_a_key_from_its_activation_on_without_a_refresh() -> None:
    turn = START + 30 * DAY
    view = view_of(new_ring(), refreshed_at=turn - SECOND)
    assert view.signing_key(POLICY, turn - SECOND).kid == "a"
    assert view.signing_key(POLICY, turn).kid == "b"


def test_a_change_that_a_node_has_seen_applies_even_if_its_clock_is_behind() -> None:
    ring = replace(rotated(), changed_at=START + DAY)
    assert (
        view_of(ring, refreshed_at=START + DAY - SECOND).signing_key(POLICY, START + DAY - SECOND).kid == "b"
    )
    long_before = START + DAY - SKEW - SECOND
    assert view_of(ring, refreshed_at=long_before).signing_key(POLICY, long_before).kid == "a"


def test_a_node_without_database_drops_no_key() -> None:
    leaves_at = rotated().leaves_at(rotated().find("a"))
    assert leaves_at is not None
    for seen_at, kids in ((leaves_at - SECOND, "abc"), (leaves_at, "bc")):
        assert "".join(key.kid for key in view_of(rotated(), seen_at).published_keys) == kids


def test_a_node_without_database_publishes_for_the_outage_limit_and_caches_expire_in_time() -> None:
    view = view_of(new_ring(), refreshed_at=START)
    last = START + POLICY.outage_limit + POLICY.max_age
    assert view.max_age(POLICY, START + POLICY.outage_limit) == POLICY.max_age
    assert view.max_age(POLICY, last - SECOND) == SECOND
    with pytest.raises(StaleView):
        view.max_age(POLICY, last)


def test_a_view_stays_stale_when_the_clock_is_set_back() -> None:
    view = view_of(new_ring(), refreshed_at=START + DAY)
    for act in (view.signing_key, view.max_age):
        act(POLICY, START + DAY - POLICY.node_timeout)
        with pytest.raises(StaleView):
            act(POLICY, START + DAY - POLICY.node_timeout - SECOND)


def test_a_process_is_waited_for_until_it_acknowledges_or_may_no_longer_sign() -> None:
    last = START + SIGNS
    acknowledged = Acknowledgement.of([beat(1), beat(2)], 2, POLICY, last - SECOND)
    assert (acknowledged.done, acknowledged.waiting, acknowledged.silent) == (
        (beat(2),),
        (beat(1),),
        (beat(1),),
    )
    acknowledged = Acknowledgement.of([beat(1), beat(2)], 2, POLICY, last)
    assert (acknowledged.done, acknowledged.waiting, acknowledged.silent) == ((beat(2),), (), (beat(1),))


def test_a_silent_process_is_reported_until_its_key_sets_have_expired() -> None:
    last = START + PUBLISHES
    assert Acknowledgement.of([beat(1)], 2, POLICY, last - SECOND).silent == (beat(1),)
    assert Acknowledgement.of([beat(1)], 2, POLICY, last).silent == ()


def test_a_process_that_ended_is_not_waited_for_but_its_key_sets_count() -> None:
    left = beat(1).last(START + SECOND)
    acknowledged = Acknowledgement.of([left], 2, POLICY, START + SECOND)
    assert (acknowledged.done, acknowledged.waiting, acknowledged.silent) == ((), (), ())
    generous = replace(left, served_until=START + DAY)
    assert Acknowledgement.of([generous], 2, POLICY, START + SECOND).refused_from == START + DAY + SKEW
    assert left.served_until == START + SECOND + POLICY.max_age


def test_a_revoked_key_is_refused_when_caches_of_acknowledging_processes_have_expired() -> None:
    for beats in ([], [beat(2)]):
        assert Acknowledgement.of(beats, 2, POLICY, START).refused_from == START + POLICY.max_age + SKEW


def test_a_revoked_key_is_refused_later_if_a_process_serves_a_longer_max_age() -> None:
    longer = replace(POLICY, max_age=timedelta(hours=2))
    beats = [Heartbeat.of("other-1", "other", 2, longer, START)]
    assert Acknowledgement.of(beats, 2, POLICY, START).refused_from == START + timedelta(hours=2) + SKEW


def test_a_revoked_key_is_refused_later_if_a_silent_process_may_still_publish_it() -> None:
    beats = [beat(1), beat(2)]
    assert Acknowledgement.of(beats, 2, POLICY, START).refused_from == START + PUBLISHES
    almost = START + PUBLISHES - SECOND
    assert Acknowledgement.of(beats, 2, POLICY, almost).refused_from == almost + POLICY.max_age + SKEW


def test_a_silent_process_may_have_refreshed_until_its_next_heartbeat_was_due() -> None:
    rarely = replace(POLICY, node_timeout=timedelta(seconds=60))
    heartbeat = Heartbeat.of("other-1", "other", 1, rarely, START)
    assert heartbeat.signs_until == START + timedelta(seconds=20 + 60)
    assert heartbeat.served_until == heartbeat.signs_until + timedelta(hours=1, minutes=5) - timedelta(
        seconds=60
    )
