"""What an operator does in the world of `ring_world`: changed settings, and operations that must take effect.

When it is done is defined in `test_promises_over_time`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from issuer.errors import NothingToDo, Refused
from issuer.keyring.key import Key
from issuer.keyring.policy import PUBLISHED_MOST, Policy
from issuer.keyring.ring import KeyRing, Phase
from support.ring_world import Operation, seconds

POLICY = Policy(
    algorithm="RS256",
    token_lifetime=seconds(20),
    rotation_period=seconds(100),
    publish_lead=seconds(40),
    max_age=seconds(10),
    node_timeout=seconds(5),
    outage_limit=seconds(20),
    clock_skew=seconds(3),
)
Change = Mapping[str, Any]

SHORT = {"publish_lead": seconds(20), "max_age": seconds(5), "outage_limit": seconds(30)}
MIDDLE = {"publish_lead": seconds(40), "max_age": seconds(10), "outage_limit": seconds(20)}
LONG = {"publish_lead": seconds(80), "max_age": seconds(30), "outage_limit": seconds(60)}
SLOW = {"token_lifetime": seconds(60), "node_timeout": seconds(8), "clock_skew": seconds(3)}
QUICK = {**SHORT, "rotation_period": seconds(20), "node_timeout": seconds(5), "clock_skew": seconds(3)}
CHANGES: tuple[Change, ...] = (
    SHORT,
    MIDDLE,
    LONG,
    {**SHORT, "token_lifetime": seconds(5), "node_timeout": seconds(3), "clock_skew": seconds(3)},
    {**LONG, "token_lifetime": seconds(60), "node_timeout": seconds(8), "clock_skew": seconds(4)},
    {"token_lifetime": seconds(5)},
    {"token_lifetime": seconds(60)},
    {"node_timeout": seconds(3)},
    {"node_timeout": seconds(8)},
    {"clock_skew": seconds(3)},
    {"clock_skew": seconds(4)},
    {"rotation_period": seconds(0)},
    {"rotation_period": seconds(20)},
    {"rotation_period": seconds(40)},
    {"rotation_period": seconds(300)},
    {"standby_keys": 1},
    {"standby_keys": 2},
    {"standby_keys": 3},
    {"algorithm": "ES256"},
)
"""What an operator changes at once; every sum of them is a policy that is accepted."""

STARTS: tuple[Change, ...] = (
    {},
    SHORT,
    LONG,
    {"standby_keys": 2},
    {**LONG, "rotation_period": seconds(80)},
    {"rotation_period": seconds(40)},
    {**SHORT, "rotation_period": seconds(20), "token_lifetime": seconds(5)},
)


def changed(policy: Policy, change: Change) -> Policy:
    """Return `policy` with `change`, and with a rotation period that the lead allows."""
    spans = {"rotation_period": policy.rotation_period, **change}
    if spans["rotation_period"]:
        spans["rotation_period"] = max(
            spans["rotation_period"], spans.get("publish_lead", policy.publish_lead)
        )
    return replace(policy, **spans)


def as_seen(kid: str, performed: Operation) -> Operation:
    """Return an operation of an operator who saw `kid` sign and wants to supersede no other key."""

    def operation(ring: KeyRing, now: datetime) -> KeyRing:
        signs = ring.current(now).kid
        try:
            ring.require_current(kid, now)
        except Refused as refusal:
            assert signs != kid
            raise NothingToDo from refusal
        assert signs == kid, "another key is superseded than the operator saw"
        return performed(ring, now)

    return operation


def rotate(policy: Policy, *, forced: bool) -> Operation:
    def operation(ring: KeyRing, now: datetime) -> KeyRing:
        standbys = {key.kid for key in ring.keys if ring.phase(key, now) is Phase.STANDBY}
        may_sign_from = min((ring.find(kid).may_sign_from for kid in standbys), default=now)
        try:
            after = ring.promoted(policy, now, forced=forced)
        except Refused as refusal:
            if standbys and (forced or may_sign_from <= now):
                no_room_is_left(ring, policy, refusal, now)
            elif standbys:
                _time_resolves(refusal, now, forced=forced, only_from=may_sign_from)
            raise NothingToDo from refusal
        assert after.current(now).kid in standbys, "nothing was rotated"
        return after

    return operation


def roll_back(policy: Policy, rolled_back_from: set[str], *, forced: bool) -> Operation:
    def operation(ring: KeyRing, now: datetime) -> KeyRing:
        try:
            after = ring.rolled_back(policy, now, forced=forced)
        except Refused as refusal:
            if refusal.allowed_from is not None:
                _time_resolves(refusal, now, forced=forced, only_from=refusal.allowed_from)
            else:
                _nothing_is_left_to_go_back_to(ring, now, rolled_back_from, forced=forced)
            raise NothingToDo from refusal
        chosen = ring.find(after.current(now).kid)
        assert ring.phase(chosen, now) is Phase.PREVIOUS, "nothing was rolled back"
        assert forced or chosen.kid not in rolled_back_from, (
            "a rollback leads to a key that was rolled back from"
        )
        assert forced or chosen.may_sign_from <= now, "a key signs again before verifiers know it"
        last = max(_previous(ring, now), key=lambda key: ring.superseded_at(key) or now)
        assert ring.superseded_at(chosen) == ring.superseded_at(last), "that is not the key that signed last"
        return after

    return operation


def revoke(policy: Policy, kid: str, *, compromised: bool) -> Operation:
    def operation(ring: KeyRing, now: datetime) -> KeyRing:
        before = ring.find(kid)
        try:
            after = ring.revoked(kid, "a reason", policy, now, compromised=compromised)
        except NothingToDo:
            assert before.revoked_at, "a key is trusted that should be revoked"
            assert before.compromised or not compromised, "a compromised key is only said to be revoked"
            raise
        except Refused as refusal:
            assert before == ring.current(now), "a key that does not sign is trusted for want of another"
            assert not ring.standbys(now)
            raise NothingToDo from refusal
        assert before.revoked_at is None or after.find(kid).compromised > before.compromised
        assert after.find(kid).compromised == compromised
        assert after.find(kid).revoked_at == (before.revoked_at or now)
        assert after.current(now).kid != kid
        if before == ring.current(now):
            oldest = min(key.may_sign_from for key in ring.standbys(now))
            assert after.current(now).may_sign_from == oldest, "verifiers would know another key for longer"
        return after

    return operation


def _previous(ring: KeyRing, now: datetime) -> list[Key]:
    return [key for key in ring.keys if ring.phase(key, now) is Phase.PREVIOUS]


def _nothing_is_left_to_go_back_to(
    ring: KeyRing, now: datetime, rolled_back_from: set[str], *, forced: bool
) -> None:
    if not (previous := _previous(ring, now)):
        return
    superseded_at, last = max((ring.superseded_at(key) or now, key.kid) for key in previous)
    key = ring.find(last)
    passed_over = [each for each in ring.keys if each.kid in rolled_back_from and each.kid != last]
    assert (
        (last in rolled_back_from and not forced)
        or superseded_at + key.token_lifetime <= now
        or any((each.activates_at or now) >= superseded_at for each in passed_over)
    ), f"{last} is there to go back to"


def no_room_is_left(ring: KeyRing, policy: Policy, refusal: Refused, now: datetime) -> None:
    assert len(ring.published_keys(now)) + policy.planned_keys >= PUBLISHED_MOST, (
        "there is room for a rotation"
    )
    assert refusal.allowed_from is None or refusal.allowed_from > now


def _time_resolves(refusal: Refused, now: datetime, *, forced: bool, only_from: datetime) -> None:
    assert refusal.allowed_from == only_from > now
    assert not forced, "a forced operation does not wait"
