"""The rules of the key ring that depend on time alone, one by one.

Operations of operators are tested in `test_ring_operations`, histories of all of them in `test_promises_over_time`.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.example_rings import DAY, POLICY, SECOND, START, new_ring, phases, public, rotated

from issuer.errors import Refused, UnknownKey
from issuer.keyring.ring import KeyRing, Phase


def test_a_new_ring_signs_at_once_and_activates_its_standby_a_period_later() -> None:
    ring = new_ring()
    assert phases(ring, START) == {"a": Phase.CURRENT, "b": Phase.STANDBY}
    assert ring.find("b").activates_at == START + 30 * DAY


def test_the_standby_signs_from_its_activation_without_a_save() -> None:
    ring = new_ring()
    turn = START + 30 * DAY
    assert ring.current(turn - SECOND).kid == "a"
    assert phases(ring, turn) == {"a": Phase.PREVIOUS, "b": Phase.CURRENT}


def test_a_superseded_key_stays_published_until_its_last_token_has_expired_everywhere() -> None:
    ring = rotated()
    leaves_at = START + DAY + POLICY.token_lifetime + POLICY.margin
    assert ring.leaves_at(ring.find("a")) == leaves_at
    assert phases(ring, leaves_at - SECOND)["a"] is Phase.PREVIOUS
    assert phases(ring, leaves_at)["a"] is Phase.RETIRED
    assert [key.kid for key in ring.published_keys(leaves_at)] == ["b", "c"]
    assert "a" not in phases(ring.maintained(POLICY, leaves_at), leaves_at)


def test_a_kid_may_be_given_by_any_unique_prefix() -> None:
    ring = KeyRing.create([public("-abc"), public("-abd")], POLICY, START)
    assert ring.find("-abd").kid == "-abd"
    for ambiguous in ("-ab", "", "x"):
        with pytest.raises(UnknownKey):
            ring.find(ambiguous)


def test_nodes_of_two_settings_retain_keys_by_the_longer_ones_whichever_decides_last() -> None:
    slower = replace(POLICY, node_timeout=timedelta(minutes=2), clock_skew=timedelta(minutes=1))
    assert slower.margin > POLICY.margin
    for one, other in ((POLICY, slower), (slower, POLICY)):
        ring = new_ring(one).maintained(other, START)
        assert {key.margin for key in ring.keys} == {slower.margin}
        assert ring.maintained(one, START) == ring  # they do not overrule each other without end
        assert ring.maintained(other, START) == ring


def test_a_longer_token_lifetime_is_recorded_in_the_ring_and_a_shorter_one_is_not() -> None:
    longer = replace(POLICY, token_lifetime=timedelta(hours=2))
    ring = new_ring().maintained(longer, START)
    assert {key.token_lifetime for key in ring.keys} == {timedelta(hours=2)}
    assert ring.maintained(POLICY, START) == ring


def test_a_superseded_key_keeps_the_lifetime_it_signed_with() -> None:
    longer = replace(POLICY, token_lifetime=timedelta(hours=2))
    now = START + DAY + SECOND
    assert rotated().maintained(longer, now).find("a").token_lifetime == POLICY.token_lifetime


def test_a_changed_rotation_period_moves_the_activation_but_never_before_the_lead_ends() -> None:
    now = START + DAY
    shorter = replace(POLICY, rotation_period=7 * DAY)
    assert new_ring().scheduled(shorter, now).find("b").activates_at == START + 7 * DAY
    shortest = replace(POLICY, rotation_period=timedelta(hours=2), publish_lead=timedelta(hours=2))
    late = rotated().scheduled(shortest, now + SECOND)  # which was published when it took a day
    assert late.find("c").activates_at == START + 2 * DAY


def test_an_activation_within_the_margin_is_not_moved() -> None:
    now = START + 30 * DAY - POLICY.margin
    longer = replace(POLICY, rotation_period=60 * DAY)
    assert new_ring().scheduled(longer, now).find("b").activates_at == START + 30 * DAY
    assert new_ring().scheduled(longer, now - SECOND).find("b").activates_at == START + 60 * DAY


def test_the_margin_is_that_of_the_longest_settings_of_any_node() -> None:
    slow = replace(POLICY, node_timeout=timedelta(minutes=10))
    now = START + 30 * DAY - timedelta(minutes=10)
    longer = replace(POLICY, rotation_period=60 * DAY)
    ring = new_ring().maintained(slow, START)
    assert ring.scheduled(longer, now).find("b").activates_at == START + 30 * DAY


def test_an_activation_is_brought_forward_to_the_end_of_the_margin_at_most() -> None:
    now = START + 20 * DAY
    shorter = replace(POLICY, rotation_period=7 * DAY)
    assert new_ring().scheduled(shorter, now).find("b").activates_at == now + POLICY.margin


def test_shorter_settings_do_not_let_a_published_key_sign_earlier() -> None:
    short = replace(POLICY, publish_lead=timedelta(minutes=10), max_age=timedelta(minutes=1))
    now = START + DAY + timedelta(hours=1)
    with pytest.raises(Refused) as refusal:
        rotated().maintained(short, now).promoted(short, now)
    assert refusal.value.allowed_from == START + 2 * DAY


def test_a_key_published_after_settings_became_shorter_waits_for_older_key_sets_to_expire() -> None:
    short = replace(POLICY, publish_lead=timedelta(minutes=10), max_age=timedelta(minutes=1))
    now = START + 3 * DAY
    ring = rotated().maintained(short, now).published([public("d")], short, now)
    assert ring.find("d").may_sign_from == now + DAY
    soon = now + timedelta(minutes=1)
    ring = ring.published([public("e")], short, soon)
    assert ring.find("e").may_sign_from == now + DAY
    later = now + 2 * DAY
    ring = ring.published([public("f")], short, later)
    assert ring.find("f").may_sign_from == later + timedelta(minutes=10)


def test_settings_that_were_longer_for_a_while_prolong_the_next_lead() -> None:
    long = replace(POLICY, publish_lead=3 * DAY, max_age=2 * DAY)
    now = START + 2 * DAY
    ring = rotated().maintained(long, now).maintained(POLICY, now).published([public("d")], POLICY, now)
    assert ring.find("d").may_sign_from == now + 3 * DAY


def test_shorter_settings_do_not_let_a_superseded_key_leave_earlier() -> None:
    now = START + DAY + SECOND
    short = replace(
        POLICY,
        token_lifetime=SECOND,
        node_timeout=2 * SECOND,
        clock_skew=timedelta(0),
        outage_limit=2 * SECOND,
    )
    leaves_at = rotated().leaves_at(rotated().find("a"))
    ring = rotated().maintained(short, now)
    assert ring.leaves_at(ring.find("a")) == leaves_at


def test_a_node_whose_clock_is_behind_a_revocation_signs_with_the_successor() -> None:
    revoked_at = START + 2 * DAY
    ring = rotated().revoked("b", "stolen", POLICY, revoked_at)
    assert ring.current(revoked_at - 20 * SECOND).kid == "c"
    assert ring.standbys(revoked_at - 20 * SECOND) == ()


def test_of_two_keys_activated_at_one_instant_the_later_published_signs() -> None:
    for kids in ("ab", "ba"):
        ring = KeyRing.create([public(kid) for kid in kids], POLICY, START).promoted(POLICY, START)
        assert phases(ring, START) == {kids[0]: Phase.PREVIOUS, kids[1]: Phase.CURRENT}


def test_without_a_period_keys_wait_for_an_operator() -> None:
    by_hand = replace(POLICY, rotation_period=timedelta(0))
    ring = new_ring(by_hand)
    assert ring.find("b").activates_at is None
    assert ring.current(START + 1000 * DAY).kid == "a"
    assert ring.promoted(by_hand, START + DAY).current(START + DAY).kid == "b"
    assert ring.scheduled(POLICY, START).find("b").activates_at == START + 30 * DAY


def test_a_node_whose_clock_is_behind_the_first_save_signs_with_the_first_key() -> None:
    ring = new_ring()
    assert phases(ring, START - SECOND) == {"a": Phase.CURRENT, "b": Phase.STANDBY}


def test_the_lead_of_a_later_key_is_the_longest_that_the_ring_recorded() -> None:
    longer = replace(POLICY, publish_lead=3 * DAY)
    now = START + 2 * DAY
    ring = rotated().maintained(longer, now).published([public("d")], longer, now)
    assert ring.find("d").may_sign_from == now + 3 * DAY


def test_key_sets_of_the_first_ring_expire_before_a_key_under_shorter_settings_signs() -> None:
    short = replace(POLICY, publish_lead=timedelta(minutes=10), max_age=timedelta(minutes=1))
    ring = new_ring().maintained(short, START).published([public("c")], short, START)
    assert ring.find("c").may_sign_from == START + DAY


def test_a_key_that_a_wrong_clock_activated_is_the_next_standby_under_the_right_clock() -> None:
    ring = KeyRing.create([public("a"), public("b"), public("c")], POLICY, START)
    ring = ring.promoted(POLICY, START + DAY)
    assert [key.kid for key in ring.standbys(START + SECOND)] == ["b", "c"]


def test_a_retired_key_stays_for_as_long_as_one_that_it_superseded() -> None:
    longer = replace(POLICY, token_lifetime=timedelta(hours=2))
    ring = new_ring().maintained(longer, START).published([public("c")], POLICY, START + DAY)
    ring = ring.promoted(POLICY, START + DAY)
    b = replace(ring.find("b"), token_lifetime=POLICY.token_lifetime)
    ring = replace(ring, keys=tuple(b if key.kid == "b" else key for key in ring.keys))
    ring = ring.promoted(POLICY, START + DAY + SECOND, forced=True)
    now = START + DAY + timedelta(hours=1)
    assert phases(ring, now) == {"a": Phase.PREVIOUS, "b": Phase.RETIRED, "c": Phase.CURRENT}
    assert ring.maintained(POLICY, now).leaves_at(ring.find("a")) == ring.leaves_at(ring.find("a"))
    assert phases(ring.maintained(POLICY, now + 2 * DAY), now + 2 * DAY) == {"c": Phase.CURRENT}


def test_a_decision_by_a_clock_that_is_behind_is_not_before_the_last_change() -> None:
    ring = replace(new_ring(), changed_at=START + 20 * SECOND)
    assert ring.decision_instant(POLICY, START) == START + 20 * SECOND
    assert ring.decision_instant(POLICY, START + DAY) == START + DAY


def test_a_decision_follows_a_clock_that_is_far_ahead_by_the_skew_at_most() -> None:
    ring = replace(new_ring(), changed_at=START + DAY)
    assert ring.decision_instant(POLICY, START) == START + POLICY.clock_skew


def test_a_rotation_is_overdue_from_a_period_after_the_current_key_began_to_sign() -> None:
    by_hand = replace(POLICY, rotation_period=timedelta(0))
    ring = new_ring(by_hand)
    due = START + 30 * DAY
    assert ring.overdue_since(POLICY, due) is None
    assert ring.overdue_since(POLICY, due + SECOND) == due
    assert ring.overdue_since(by_hand, due + SECOND) is None
    assert new_ring().overdue_since(POLICY, due + SECOND) is None
