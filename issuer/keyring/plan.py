"""The plan: what will happen to each key, and when, if nobody interferes.

It is played forward by the rules of `keyring` themselves, so it cannot tell another story than they do.
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

UNMADE = "(a new key)"


class Happening(StrEnum):
    """What the plan tells of a key."""

    PUBLISHED = "is published"
    MAY_SIGN = "eligible for manual rotation"
    SIGNS = "signs from now on"
    LEAVES = "leaves the JWKS"


@dataclass(frozen=True)
class Step:
    """One thing that will happen; `kid` is None for a key that is yet to be made."""

    at: datetime
    happening: Happening
    kid: str | None
    alg: str


@dataclass(frozen=True)
class Life:
    """The life of one key as planned; an instant is None where it is beyond the plan, or by manual rotation only."""

    kid: str | None
    alg: str
    published_at: datetime
    signs_from: datetime | None
    signs_until: datetime | None
    leaves_at: datetime | None


@dataclass(frozen=True)
class Plan:
    """What will happen between two instants, and the lives it is made of, in the order of their turns."""

    start: datetime
    end: datetime
    steps: tuple[Step, ...]
    lives: tuple[Life, ...]


def plan(ring: KeyRing, policy: Policy, now: datetime) -> Plan:
    """Return what will happen over the next rotation period, and for a lead more: the next key is seen waiting."""
    end = now + policy.rotation_period + policy.publish_lead
    start = now
    steps: list[Step] = []
    lives: dict[str, Life] = {}
    while True:
        ring, made = completed(ring, policy, now)
        steps += [Step(now, Happening.PUBLISHED, None, key.alg) for key in made]
        lives |= {key.kid: _life(ring, key) for key in ring.keys if ring.phase(key, now) is not Phase.REVOKED}
        upcoming = list(_upcoming(ring, now))
        next_at = min((step.at for step in upcoming), default=end)
        if next_at >= end:
            return Plan(start, end, tuple(steps), tuple(lives.values()))
        now = next_at
        steps += [step for step in upcoming if step.at == now]


def completed(ring: KeyRing, policy: Policy, now: datetime) -> tuple[KeyRing, list[PublicKey]]:
    """Return the ring with what a reconcile would do at `now`, and stand-ins for the keys that it would make."""
    tended = ring.tended(policy, now)
    missing = tended.shortfall(now, policy)
    made = [PublicKey(f"{UNMADE} {uuid4()}", policy.algorithm, {}) for _ in range(missing)]
    return tended.published(made, policy, now), made


def next_changes(ring: KeyRing, now: datetime) -> dict[Happening, datetime]:
    """Return when the next key begins to sign, and when the next leaves the JWKS, as far as that is settled."""
    steps = sorted(_upcoming(ring, now), key=lambda step: step.at, reverse=True)
    return {step.happening: step.at for step in steps if step.happening is not Happening.MAY_SIGN}


def _upcoming(ring: KeyRing, now: datetime) -> Iterator[Step]:
    for key in ring.keys:
        waits = ring.phase(key, now) is Phase.STANDBY
        ripe_at, leaves_at = ring.ripe_at(key), ring.leaves_at(key)
        if waits and ripe_at > now and (key.activates_at is None or ripe_at < key.activates_at):
            yield Step(ripe_at, Happening.MAY_SIGN, _kid(key), key.alg)
        if waits and key.activates_at:
            yield Step(key.activates_at, Happening.SIGNS, _kid(key), key.alg)
        if leaves_at and leaves_at > now and key.revoked_at is None:
            yield Step(leaves_at, Happening.LEAVES, _kid(key), key.alg)


def _life(ring: KeyRing, key: Key) -> Life:
    return Life(
        kid=_kid(key),
        alg=key.alg,
        published_at=key.published_at,
        signs_from=key.activates_at,
        signs_until=ring.superseded_at(key),
        leaves_at=ring.leaves_at(key),
    )


def _kid(key: PublicKey) -> str | None:
    return None if key.kid.startswith(UNMADE) else key.kid
