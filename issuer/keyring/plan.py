"""The plan: what will happen to each key, and when, if no operator changes anything.

It is computed by applying the rules of `ring` to later instants, so it cannot differ from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing, Phase
from issuer.signing.public_key import PublicKey

PLACEHOLDER = "(new key)"
"""The kid of a key that is not generated yet begins with it."""


class EventKind(StrEnum):
    """What happens to a key in a step of the plan."""

    PUBLISHED = "is published"
    MAY_SIGN = "eligible for manual rotation"
    SIGNS = "signs from now on"
    LEAVES = "leaves the JWKS"


@dataclass(frozen=True)
class Step:
    """One event; `kid` is None for a key that is not generated yet."""

    at: datetime
    kind: EventKind
    kid: str | None
    alg: str


@dataclass(frozen=True)
class KeyTimeline:
    """The planned life of one key; an instant is None if it is after the plan, or by manual rotation only."""

    kid: str | None
    alg: str
    published_at: datetime
    signs_from: datetime | None
    signs_until: datetime | None
    leaves_at: datetime | None


@dataclass(frozen=True)
class Plan:
    """What will happen between two instants, and the timeline of each key, in the order in which keys appear."""

    start: datetime
    end: datetime
    steps: tuple[Step, ...]
    timelines: tuple[KeyTimeline, ...]


def plan(ring: KeyRing, policy: Policy, now: datetime) -> Plan:
    """Return the plan for a rotation period, a quarter of the next one, and a lead.

    So it shows the next rotation with what follows: a new key is published, and the replaced one leaves the JWKS.
    """
    end = now + policy.rotation_period * 5 / 4 + policy.publish_lead
    start = now
    steps: list[Step] = []
    timelines: dict[str, KeyTimeline] = {}
    while True:
        ring, made = completed(ring, policy, now)
        steps += [Step(now, EventKind.PUBLISHED, None, key.alg) for key in made]
        timelines |= {
            key.kid: _timeline(ring, key) for key in ring.keys if ring.phase(key, now) is not Phase.REVOKED
        }
        upcoming = list(_upcoming(ring, now))
        next_at = min((step.at for step in upcoming), default=end)
        if next_at >= end:
            return Plan(start, end, tuple(steps), tuple(timelines.values()))
        now = next_at
        steps += [step for step in upcoming if step.at == now]


def completed(ring: KeyRing, policy: Policy, now: datetime) -> tuple[KeyRing, list[PublicKey]]:
    """Return the ring as a reconcile at `now` would save it, and placeholders for the keys that it would make."""
    maintained = ring.maintained(policy, now)
    missing = maintained.shortfall(now, policy)
    made = [PublicKey(f"{PLACEHOLDER} {uuid4()}", policy.algorithm, {}) for _ in range(missing)]
    return maintained.published(made, policy, now), made


def next_changes(ring: KeyRing, now: datetime) -> dict[EventKind, datetime]:
    """Return when the next key begins to sign, and when the next one leaves the JWKS, as far as it is scheduled."""
    steps = sorted(_upcoming(ring, now), key=lambda step: step.at, reverse=True)
    return {step.kind: step.at for step in steps if step.kind is not EventKind.MAY_SIGN}


def _upcoming(ring: KeyRing, now: datetime) -> Iterator[Step]:
    for key in ring.keys:
        is_standby = ring.phase(key, now) is Phase.STANDBY
        may_sign_from, leaves_at = key.may_sign_from, ring.leaves_at(key)
        if (
            is_standby
            and may_sign_from > now
            and (key.activates_at is None or may_sign_from < key.activates_at)
        ):
            yield Step(may_sign_from, EventKind.MAY_SIGN, _kid(key), key.alg)
        if is_standby and key.activates_at:
            yield Step(key.activates_at, EventKind.SIGNS, _kid(key), key.alg)
        if leaves_at and leaves_at > now and key.revoked_at is None:
            yield Step(leaves_at, EventKind.LEAVES, _kid(key), key.alg)


def _timeline(ring: KeyRing, key: Key) -> KeyTimeline:
    return KeyTimeline(
        kid=_kid(key),
        alg=key.alg,
        published_at=key.published_at,
        signs_from=key.activates_at,
        signs_until=ring.superseded_at(key),
        leaves_at=ring.leaves_at(key),
    )


def _kid(key: PublicKey) -> str | None:
    return None if key.kid.startswith(PLACEHOLDER) else key.kid
