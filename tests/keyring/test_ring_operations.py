"""The operations of operators: rotate, roll back, revoke and import, each with what it refuses.

The rules that depend on time alone are tested in `test_ring`.
"""

from dataclasses import replace

import pytest
from support.example_rings import DAY, POLICY, SECOND, START, new_ring, phases, public, rotated

from issuer.errors import NothingToDo, Refused
from issuer.keyring.ring import KeyRing, Phase


def test_a_second_rotation_at_once_is_refused_with_the_instant_from_which_it_is_allowed() -> None:
    with pytest.raises(Refused, match="ISSUER_PUBLISH_LEAD") as refusal:
        rotated().promoted(POLICY, START + DAY + SECOND)
    assert refusal.value.allowed_from == START + 2 * DAY
    assert rotated().promoted(POLICY, START + 2 * DAY).current(START + 2 * DAY).kid == "c"


def test_keys_of_the_first_save_are_exempt_from_the_lead() -> None:
    assert new_ring().promoted(POLICY, START + SECOND).current(START + SECOND).kid == "b"


def test_revoking_the_current_key_brings_the_standby_forward_in_the_same_ring() -> None:
    now = START + SECOND
    ring = new_ring().revoked("a", "stolen", POLICY, now)
    assert phases(ring, now) == {"a": Phase.REVOKED, "b": Phase.CURRENT}
    assert ring.find("b").activates_at == now
    assert ring.shortfall(now, POLICY) == 1
    assert [key.kid for key in ring.published_keys(now)] == ["b"]


def test_revoking_the_current_key_without_a_standby_is_refused() -> None:
    ring = replace(new_ring(), keys=new_ring().keys[:1])
    with pytest.raises(Refused, match="no standby"):
        ring.revoked("a", "stolen", POLICY, START + SECOND)


def test_a_revoked_key_never_becomes_current_again() -> None:
    ring = new_ring().revoked("b", "unwanted", POLICY, START + SECOND)
    assert ring.current(START + 365 * DAY).kid == "a"


def test_a_standby_revoked_before_its_activation_does_not_supersede_the_current_key() -> None:
    ring = new_ring().revoked("b", "unwanted", POLICY, START + SECOND)
    assert ring.superseded_at(ring.find("a")) is None


def test_a_key_superseded_by_one_revoked_later_still_stopped_signing_then() -> None:
    now = START + DAY + SECOND
    ring = rotated().revoked("b", "stolen", POLICY, now)
    assert ring.superseded_at(ring.find("a")) == START + DAY
    assert phases(ring, now) == {"a": Phase.PREVIOUS, "b": Phase.REVOKED, "c": Phase.CURRENT}


def test_revoking_twice_is_nothing_to_do() -> None:
    ring = new_ring().revoked("b", "unwanted", POLICY, START)
    with pytest.raises(NothingToDo):
        ring.revoked("b", "unwanted", POLICY, START)


def test_a_revoked_key_can_be_marked_as_compromised_later_and_keeps_its_revocation_time() -> None:
    ring = new_ring().revoked("b", "unwanted", POLICY, START)
    ring = ring.revoked("b", "stolen", POLICY, START + DAY, compromised=True)
    assert (ring.find("b").revoked_at, ring.find("b").compromised) == (START, True)
    for compromised in (False, True):
        with pytest.raises(NothingToDo):
            ring.revoked("b", "stolen", POLICY, START + DAY, compromised=compromised)


def test_revoking_a_standby_schedules_the_next_one() -> None:
    ring = KeyRing.create([public("a"), public("b"), public("c")], POLICY, START)
    assert ring.revoked("b", "unwanted", POLICY, START + SECOND).find("c").activates_at == START + 30 * DAY


def test_an_operation_based_on_another_current_key_is_refused() -> None:
    new_ring().require_current("a", START)
    with pytest.raises(Refused, match="another operator or the timer"):
        rotated().require_current("a", START + DAY)


def test_forced_the_oldest_standby_signs_before_its_lead_ends() -> None:
    now = START + DAY + SECOND
    ring = rotated().published([public("d")], POLICY, now).promoted(POLICY, now, forced=True)
    assert ring.current(now).kid == "c"
    assert ring.find("c").may_sign_from == START + 2 * DAY


def test_forced_the_next_standby_in_the_order_of_activation_is_promoted() -> None:
    three = KeyRing.create([public("a"), public("b"), public("c")], POLICY, START)
    for forced in (False, True):
        assert three.promoted(POLICY, START + SECOND, forced=forced).current(START + SECOND).kid == "b"


def test_of_several_standbys_that_may_sign_the_next_to_be_activated_is_promoted() -> None:
    now = START + 5 * DAY
    ring = rotated().published([public("d")], POLICY, START + 2 * DAY)
    assert ring.promoted(POLICY, now).current(now).kid == "c"


def test_without_a_standby_nothing_is_promoted() -> None:
    ring = replace(new_ring(), keys=new_ring().keys[:1])
    with pytest.raises(Refused, match="no standby"):
        ring.promoted(POLICY, START + SECOND, forced=True)


def test_a_rollback_lets_the_previous_key_sign_again_and_the_one_after_it_be_previous() -> None:
    now = START + DAY + SECOND
    ring = rotated().rolled_back(POLICY, now)
    assert phases(ring, now) == {"a": Phase.CURRENT, "b": Phase.PREVIOUS, "c": Phase.STANDBY}
    assert ring.find("c").activates_at == now + 30 * DAY
    assert ring.superseded_at(ring.find("b")) == now
    assert ring.superseded_at(ring.find("a")) == now + 30 * DAY


def test_a_rollback_in_the_instant_of_the_rotation_takes_effect() -> None:
    now = START + DAY
    assert rotated().rolled_back(POLICY, now).current(now).kid == "a"


def test_a_rotation_in_the_instant_of_a_rollback_takes_effect() -> None:
    now = START + 2 * DAY
    ring = rotated().promoted(POLICY, now).published([public("d")], POLICY, now).rolled_back(POLICY, now)
    assert ring.current(now).kid == "b"
    assert ring.promoted(POLICY, now, forced=True).current(now).kid == "d"


def test_a_rollback_is_refused_when_a_node_may_have_destroyed_the_key() -> None:
    key = rotated().find("a")
    leaves_at = rotated().leaves_at(key)
    assert leaves_at is not None
    closes_at = leaves_at - key.margin
    assert rotated().rolled_back(POLICY, closes_at - SECOND).current(closes_at).kid == "a"
    for now in (closes_at, leaves_at, leaves_at + DAY):
        with pytest.raises(Refused, match="rotate to the next key") as refusal:
            rotated().rolled_back(POLICY, now, forced=True)
        assert refusal.value.allowed_from is None


def test_a_rollback_does_not_go_past_a_key_that_was_rolled_back_from() -> None:
    now = START + DAY + SECOND
    ring = rotated().promoted(POLICY, now, forced=True).rolled_back(POLICY, now + SECOND)
    ring = ring.revoked("c", "stolen", POLICY, now + 2 * SECOND)
    assert ring.phase(ring.find("a"), now + 2 * SECOND) is Phase.PREVIOUS
    for forced in (False, True):
        with pytest.raises(Refused, match="no previous key"):
            ring.rolled_back(POLICY, now + 3 * SECOND, forced=forced)


def test_a_key_forced_back_into_use_may_be_the_target_of_a_later_rollback() -> None:
    now = START + DAY + SECOND
    ring = rotated().rolled_back(POLICY, now).rolled_back(POLICY, now + SECOND, forced=True)
    ring = ring.promoted(POLICY, START + 2 * DAY)
    assert ring.rolled_back(POLICY, START + 2 * DAY).current(START + 2 * DAY).kid == "b"


def test_without_a_previous_key_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(Refused, match="no previous key"):
        new_ring().rolled_back(POLICY, START + SECOND)


def test_a_rollback_does_not_lead_to_a_revoked_key() -> None:
    now = START + DAY + SECOND
    with pytest.raises(Refused, match="no previous key"):
        rotated().revoked("a", "stolen", POLICY, now).rolled_back(POLICY, now, forced=True)
    ring = rotated().revoked("b", "stolen", POLICY, now)
    assert ring.rolled_back(POLICY, now).current(now).kid == "a"


def test_a_rollback_does_not_lead_to_a_key_that_was_rolled_back_from_unless_forced() -> None:
    now = START + DAY + SECOND
    ring = rotated().rolled_back(POLICY, now)
    with pytest.raises(Refused, match="was rolled back"):
        ring.rolled_back(POLICY, now + SECOND)
    forced = ring.rolled_back(POLICY, now + SECOND, forced=True)
    assert forced.current(now + SECOND).kid == "b"
    assert forced.find("a").rolled_back_from
    again = forced.promoted(POLICY, now + 2 * SECOND, forced=True).rolled_back(
        POLICY, now + 3 * SECOND, forced=True
    )
    assert {"a", "c"} <= {key.kid for key in again.keys if key.rolled_back_from}


def test_a_rollback_goes_back_to_the_key_that_signed_last() -> None:
    now = START + DAY + SECOND
    ring = rotated().promoted(POLICY, now, forced=True)
    assert ring.rolled_back(POLICY, now + SECOND).current(now + SECOND).kid == "b"


def test_a_rollback_to_a_forced_key_waits_for_its_lead_unless_forced_too() -> None:
    now = START + DAY + SECOND
    ring = rotated().promoted(POLICY, now, forced=True).published([public("d")], POLICY, now)
    ring = ring.promoted(POLICY, now + SECOND, forced=True)
    with pytest.raises(Refused) as refusal:
        ring.rolled_back(POLICY, now + 2 * SECOND)
    assert refusal.value.allowed_from == START + 2 * DAY
    forced = ring.rolled_back(POLICY, now + 2 * SECOND, forced=True)
    assert forced.current(now + 2 * SECOND).kid == "c"


def test_an_imported_key_waits_as_the_last_standby_for_the_lead() -> None:
    now = START + 2 * DAY
    ring = rotated().imported(public("d"), POLICY, now)
    assert [key.kid for key in ring.standbys(now)] == ["c", "d"]
    assert ring.find("d").may_sign_from == now + DAY
    assert [key.kid for key in ring.keys if key.imported] == ["d"]


def test_a_key_that_the_ring_has_or_had_revoked_is_not_imported() -> None:
    ring = new_ring().revoked("b", "stolen", POLICY, START + SECOND)
    for kid in "ab":
        with pytest.raises(Refused, match=r"has [ab] already"):
            ring.imported(public(kid), POLICY, START + DAY)


def test_a_revoked_key_stays_in_the_ring_and_a_standby_of_it_is_missing() -> None:
    ring = new_ring().revoked("b", "unwanted", POLICY, START).maintained(POLICY, START + 1000 * DAY)
    assert phases(ring, START + 1000 * DAY) == {"a": Phase.CURRENT, "b": Phase.REVOKED}
    assert ring.shortfall(START + 1000 * DAY, POLICY) == 1
