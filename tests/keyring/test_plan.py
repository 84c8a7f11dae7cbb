"""The plan comes true: what it says is what the rules do when time passes."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from keyring.test_ring import DAY, POLICY, SECOND, START, founded, public, rotated

from issuer.cli.timeline import bar
from issuer.keyring.plan import Happening, Plan, plan
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing


def told(planned: Plan) -> list[tuple[datetime, Happening, str | None]]:
    return [(step.at, step.happening, step.kid) for step in planned.steps]


def test_the_turn_of_the_standby_and_what_follows_from_it_are_planned() -> None:
    turn = START + 30 * DAY
    assert told(plan(founded(), POLICY, START + SECOND)) == [
        (turn, Happening.SIGNS, "b"),
        (turn, Happening.PUBLISHED, None),
        (turn + POLICY.token_lifetime + POLICY.margin, Happening.LEAVES, "a"),
        (turn + DAY, Happening.MAY_SIGN, None),
    ]


def test_a_key_that_waits_for_its_lead_and_one_that_is_leaving_are_planned() -> None:
    now = START + DAY + SECOND
    steps = told(plan(rotated(), POLICY, now))
    assert steps[:2] == [
        (START + DAY + POLICY.token_lifetime + POLICY.margin, Happening.LEAVES, "a"),
        (START + 2 * DAY, Happening.MAY_SIGN, "c"),
    ]


def test_without_a_rotation_period_nothing_signs_by_itself() -> None:
    by_hand = replace(POLICY, rotation_period=timedelta(0))
    ring = founded(by_hand).promoted(by_hand, START + DAY)
    steps = told(plan(ring, by_hand, START + DAY))
    assert Happening.SIGNS not in {happening for _, happening, _ in steps}
    assert (START + 2 * DAY, Happening.MAY_SIGN, None) not in steps  # that is the end of the plan


def test_a_changed_algorithm_is_seen_in_the_key_after_the_standby() -> None:
    other = replace(POLICY, algorithm="ES256")
    steps = plan(founded(), other, START).steps
    assert {(step.happening, step.alg) for step in steps} >= {
        (Happening.SIGNS, "RS256"),
        (Happening.PUBLISHED, "ES256"),
    }


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        replace(POLICY, standby_keys=3),
        replace(POLICY, rotation_period=DAY),
        replace(POLICY, rotation_period=2 * DAY, token_lifetime=3 * DAY),
    ],
)
def test_what_is_planned_happens_at_its_instant_and_nothing_else_does(policy: Policy) -> None:
    ring = founded(policy)
    planned = plan(ring, policy, START)
    expected = {
        (step.at, step.happening) for step in planned.steps if step.happening is not Happening.MAY_SIGN
    }
    happened: set[tuple[datetime, Happening]] = set()
    for now in sorted({step.at + shift for step in planned.steps for shift in (-SECOND, timedelta(0))}):
        happened |= {(now, what) for what in changes(ring, tend(ring, policy, now), now)}
        ring = tend(ring, policy, now)
    assert {each for each in happened if each[0] > START} == {each for each in expected if each[0] > START}


def tend(ring: KeyRing, policy: Policy, now: datetime) -> KeyRing:
    tended = ring.tended(policy, now)
    fresh = [public(f"{now}{number}") for number in range(tended.shortfall(now, policy))]
    return replace(tended.published(fresh, policy, now), changed_at=now)


def changes(before: KeyRing, after: KeyRing, now: datetime) -> set[Happening]:
    kids_before, kids_after = ({key.kid for key in ring.keys} for ring in (before, after))
    switched = before.current(now).kid != before.current(before.changed_at).kid
    return (
        ({Happening.PUBLISHED} if kids_after - kids_before else set())
        | ({Happening.LEAVES} if kids_before - kids_after else set())
        | ({Happening.SIGNS} if switched else set())
    )


def test_each_part_of_a_life_is_drawn_at_its_place_and_none_is_too_short_to_see() -> None:
    planned = plan(founded(), POLICY, START)
    first, second, third = (bar(life, planned, 62) for life in planned.lives)
    assert first == "█" * 60 + "▒" + " "
    assert second == "░" * 60 + "██"
    assert third == " " * 60 + "░░"
