"""The plan: what it says happens when time passes."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.example_rings import DAY, POLICY, SECOND, START, new_ring, public, rotated

from issuer.cli.timeline import bar
from issuer.keyring.plan import EventKind, Plan, plan
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing


def steps_of(planned: Plan) -> list[tuple[datetime, EventKind, str | None]]:
    return [(step.at, step.kind, step.kid) for step in planned.steps]


def test_the_activation_of_the_standby_and_its_consequences_are_planned() -> None:
    turn = START + 30 * DAY
    assert steps_of(plan(new_ring(), POLICY, START + SECOND)) == [
        (turn, EventKind.SIGNS, "b"),
        (turn, EventKind.PUBLISHED, None),
        (turn + POLICY.token_lifetime + POLICY.margin, EventKind.LEAVES, "a"),
        (turn + DAY, EventKind.MAY_SIGN, None),
    ]


def test_the_end_of_a_lead_and_of_a_retention_are_planned() -> None:
    now = START + DAY + SECOND
    steps = steps_of(plan(rotated(), POLICY, now))
    assert steps[:2] == [
        (START + DAY + POLICY.token_lifetime + POLICY.margin, EventKind.LEAVES, "a"),
        (START + 2 * DAY, EventKind.MAY_SIGN, "c"),
    ]


def test_without_a_rotation_period_nothing_signs_by_itself() -> None:
    by_hand = replace(POLICY, rotation_period=timedelta(0))
    ring = new_ring(by_hand).promoted(by_hand, START + DAY)
    steps = steps_of(plan(ring, by_hand, START + DAY))
    assert EventKind.SIGNS not in {kind for _, kind, _ in steps}
    assert (START + 2 * DAY, EventKind.MAY_SIGN, None) not in steps  # that is the end of the plan


def test_a_changed_algorithm_applies_to_the_key_after_the_standby() -> None:
    other = replace(POLICY, algorithm="ES256")
    steps = plan(new_ring(), other, START).steps
    assert {(step.kind, step.alg) for step in steps} >= {
        (EventKind.SIGNS, "RS256"),
        (EventKind.PUBLISHED, "ES256"),
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
def test_every_planned_step_happens_at_its_instant_and_no_other_does(policy: Policy) -> None:
    ring = new_ring(policy)
    planned = plan(ring, policy, START)
    expected = {(step.at, step.kind) for step in planned.steps if step.kind is not EventKind.MAY_SIGN}
    happened: set[tuple[datetime, EventKind]] = set()
    for now in sorted({step.at + shift for step in planned.steps for shift in (-SECOND, timedelta(0))}):
        happened |= {(now, what) for what in changes(ring, tend(ring, policy, now), now)}
        ring = tend(ring, policy, now)
    assert {each for each in happened if each[0] > START} == {each for each in expected if each[0] > START}


def tend(ring: KeyRing, policy: Policy, now: datetime) -> KeyRing:
    maintained = ring.maintained(policy, now)
    fresh = [public(f"{now}{number}") for number in range(maintained.shortfall(now, policy))]
    return replace(maintained.published(fresh, policy, now), changed_at=now)


def changes(before: KeyRing, after: KeyRing, now: datetime) -> set[EventKind]:
    kids_before, kids_after = ({key.kid for key in ring.keys} for ring in (before, after))
    switched = before.current(now).kid != before.current(before.changed_at).kid
    return (
        ({EventKind.PUBLISHED} if kids_after - kids_before else set())
        | ({EventKind.LEAVES} if kids_before - kids_after else set())
        | ({EventKind.SIGNS} if switched else set())
    )


def test_each_part_of_a_timeline_is_drawn_at_its_place_with_at_least_one_column() -> None:
    planned = plan(new_ring(), POLICY, START)
    first, second, third = (bar(life, planned, 62) for life in planned.timelines)
    assert first == "█" * 48 + "▒" + " " * 13
    assert second == "░" * 48 + "█" * 14
    assert third == " " * 48 + "░" * 14
