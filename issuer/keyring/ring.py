"""The key ring: which key signs, which keys are published, and what an operator may change, as functions of `now`.

`schedule` computes activation times, and `key_count` bounds the number of keys. Making keys and saving the ring is
left to `rotation`; what one node may do with its copy of the ring, to `view`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from typing import Self

from issuer.clock import instant
from issuer.errors import NothingToDo, Refused, UnknownKey
from issuer.keyring.key import Key
from issuer.keyring.key_count import Published, require_document_size
from issuer.keyring.policy import Policy
from issuer.keyring.schedule import activation_times
from issuer.signing.public_key import PublicKey

NEVER = datetime.max.replace(tzinfo=UTC)


class Phase(StrEnum):
    """The phase of a key's life; always derived from `now`, never stored."""

    STANDBY = "standby"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REVOKED = "revoked"


PUBLISHED = frozenset({Phase.STANDBY, Phase.CURRENT, Phase.PREVIOUS})


@dataclass(frozen=True)
class KeyRing:
    """All keys but the retired ones, as one versioned document.

    Of two keys activated at the same instant, the one listed later counts as the later. Revoked keys stay for good,
    so that none of them is ever trusted again.
    """

    version: int
    changed_at: datetime
    """When the change that made this version was decided."""
    keys: tuple[Key, ...]
    lead: timedelta
    """The longest lead of any node since the newest key was published: cached key sets may be as old."""

    @classmethod
    def create(cls, fresh: Iterable[PublicKey], policy: Policy, now: datetime) -> Self:
        """Return a new ring, whose first key signs at once: no older key set can be in any cache."""
        first, *rest = (Key.standby(public, policy, now, lead=timedelta(0)) for public in fresh)
        keys = (replace(first, activates_at=now), *rest)
        return cls(version=0, changed_at=now, keys=keys, lead=policy.publish_lead).scheduled(policy, now)

    @cached_property
    def by_activation(self) -> tuple[Key, ...]:
        """The keys in the order of their activation; those without an activation time last."""
        return tuple(sorted(self.keys, key=lambda key: key.activates_at or NEVER))

    def phase(self, key: Key, now: datetime) -> Phase:
        """Return the phase of `key` at `now`."""
        return self._phase(key, self.current(now), now)

    def _phase(self, key: Key, current: Key, now: datetime) -> Phase:
        if key.revoked_at is not None:
            return Phase.REVOKED
        if key == current:
            return Phase.CURRENT
        if not key.activated_by(now):
            return Phase.STANDBY
        leaves_at = self.leaves_at(key)
        return Phase.RETIRED if leaves_at is not None and leaves_at <= now else Phase.PREVIOUS

    def current(self, now: datetime) -> Key:
        """Return the one key that signs at `now`: the unrevoked key that was activated last.

        If the last one is revoked, its successor signs even if this clock is behind and the successor's activation
        seems to lie in the future. An earlier key never does, as it may already have left the JWKS.
        """
        order = self.by_activation
        activated = [place for place, key in enumerate(order) if key.activated_by(now)]
        return next(key for key in order[max(activated, default=0) :] if key.revoked_at is None)

    def standbys(self, now: datetime) -> tuple[Key, ...]:
        """Return the keys that wait to sign, in the order of activation, which is that of `may_sign_from`."""
        return self._in_phase(Phase.STANDBY, now)

    def published_keys(self, now: datetime) -> tuple[Key, ...]:
        """Return the keys that belong in the JWKS at `now`."""
        phases = self._phases(now)
        return tuple(key for key in self.keys if phases[key.kid] in PUBLISHED)

    def _in_phase(self, phase: Phase, now: datetime) -> tuple[Key, ...]:
        """Return the keys in one phase, in the order of activation."""
        phases = self._phases(now)
        return tuple(key for key in self.by_activation if phases[key.kid] is phase)

    def _phases(self, now: datetime) -> dict[str, Phase]:
        """Return the phase of each key, by kid."""
        current = self.current(now)
        return {key.kid: self._phase(key, current, now) for key in self.keys}

    def superseded_at(self, key: Key) -> datetime | None:
        """Return the instant at which `key` stops signing, as its successor is activated, or None."""
        return next((other.activates_at for other in self._after(key) if other.ever_activated), None)

    def leaves_at(self, key: Key) -> datetime | None:
        """Return when the last token of `key` has expired everywhere and the key may leave the JWKS, or None."""
        superseded_at = self.superseded_at(key)
        return superseded_at + key.retention if superseded_at else None

    def decision_instant(self, policy: Policy, clock: datetime) -> datetime:
        """Return the `now` of a decision: `clock`, or the last change if this clock is behind it.

        At most S ahead of `clock`, so that a change saved by a clock that is far ahead does not move the others.
        """
        return max(clock, min(self.changed_at, clock + policy.clock_skew))

    def overdue_since(self, policy: Policy, now: datetime) -> datetime | None:
        """Return since when another key should sign in place of the current one, or None."""
        activated_at = self.current(now).activates_at
        if not policy.rotation_period or activated_at is None:
            return None
        due_at = activated_at + policy.rotation_period
        return due_at if due_at < now else None

    def shortfall(self, now: datetime, policy: Policy) -> int:
        """Return how many standbys are missing."""
        return max(0, policy.standby_keys - len(self.standbys(now)))

    def most_published(self, policy: Policy, now: datetime) -> int:
        """Return the most keys that will be published at once, if only the timer rotates from now on."""
        standbys = max(len(self.standbys(now)), policy.standby_keys)
        scheduled = self.scheduled(policy, now)  # as a node sets the activation times when it starts
        return scheduled.publication(now, standbys).most(policy, now)

    def find(self, kid: str) -> Key:
        """Return the key named by `kid` or by any unique prefix of it; raise UnknownKey otherwise."""
        found = [key for key in self.keys if key.kid.startswith(kid)] if kid else []
        if len(found) != 1:
            raise UnknownKey(
                f"no key has a kid that begins with {kid!r}; see: issuer keys list"
                if not found
                else f"{len(found)} keys have a kid that begins with {kid!r}; give more of it"
            )
        return found[0]

    # What the timer and each start change

    def published(self, fresh: Iterable[PublicKey], policy: Policy, now: datetime) -> Self:
        """Return the ring with `fresh` keys as standbys, each with its activation time.

        Their lead is long enough for key sets without them that were given out under longer settings, or before the
        key before them was published. `maintained` must have recorded this policy before.
        """
        lead = max(self.lead, *(key.may_sign_from - now for key in self.keys))
        standbys = tuple(Key.standby(public, policy, now, lead) for public in fresh)
        if not standbys:
            return self
        return replace(self, keys=self.keys + standbys, lead=policy.publish_lead).scheduled(policy, now)

    def scheduled(self, policy: Policy, now: datetime) -> Self:
        """Return the ring with the activation time of each standby computed again by `schedule`.

        This happens when a key is published or activated, and when a node starts, whose rotation period may be new.
        At any other time, nodes of different rotation periods would overwrite each other's times without end.
        """
        times = activation_times(self.current(now), self.standbys(now), policy, now)
        keys = (replace(key, activates_at=times.get(key.kid, key.activates_at)) for key in self.keys)
        return replace(self, keys=tuple(keys))

    def maintained(self, policy: Policy, now: datetime) -> Self:
        """Drop retired keys, and raise each key's recorded lifetime and margin to the current policy.

        They are never lowered, since older tokens and cached key sets may still be valid. A retired key stays while
        a key that it superseded does: its activation determines how long that one is published.
        """
        phases = self._phases(now)
        ended = takewhile(lambda key: phases[key.kid] in {Phase.RETIRED, Phase.REVOKED}, self.by_activation)
        retired = {key.kid for key in ended if key.revoked_at is None}
        keys = tuple(
            key.raised(policy) if phases[key.kid] in {Phase.STANDBY, Phase.CURRENT} else key
            for key in self.keys
            if key.kid not in retired
        )
        return replace(self, keys=keys, lead=max(self.lead, policy.publish_lead))

    # What operators change; each refuses what verifiers or other nodes could not follow

    def imported(self, public: PublicKey, policy: Policy, now: datetime) -> Self:
        """Return the ring with an imported key as the last standby; refuse one that it holds, revoked or not."""
        if any(key.kid == public.kid for key in self.keys):
            raise Refused(f"the ring has {public.kid} already; see: issuer keys list")
        self.publication(now, max(len(self.standbys(now)) + 1, policy.standby_keys)).require_room(policy, now)
        require_document_size([*(key.jwk for key in self.published_keys(now)), public.jwk])
        ring = self.published([public], policy, now)
        return replace(ring, keys=(*ring.keys[:-1], replace(ring.keys[-1], imported=True)))

    def promoted(self, policy: Policy, now: datetime, *, forced: bool = False) -> Self:
        """Return the ring with the next standby signing from `now`; refuse one that verifiers may not know.

        `forced`, it is not refused, and verifiers may refuse its tokens until `may_sign_from`.
        """
        standbys = self.standbys(now)
        if not standbys:
            raise Refused("there is no standby key")
        if not forced:
            standbys[0].require_lead(now)
        retention = max(policy.retention, self.current(now).retention)
        published = self.publication(now, max(len(standbys) - 1, policy.standby_keys))
        published.require_room(policy, now, retention)
        return self.activated(standbys[0], policy, now)

    def rolled_back(self, policy: Policy, now: datetime, *, forced: bool = False) -> Self:
        """Return the ring with the previous key signing again from `now`; refuse if a node may have destroyed it.

        The key that a rollback replaced is no target of a later one, unless `forced`: after A, B, a rollback to A and
        a rotation to C, the next rollback leads to A, and one more is refused instead of leading to C again.
        """
        previous = self._in_phase(Phase.PREVIOUS, now)
        if not previous or self._may_be_destroyed(previous[-1], now):
            raise Refused(
                "there is no previous key to go back to: it is revoked, or its private key was removed, as its"
                " tokens have expired; rotate to the next key instead: issuer keys rotate"
            )
        chosen = previous[-1]
        if not forced:
            chosen.require_lead(now)
            chosen.require_not_rolled_back()
        current = self.current(now)
        keys = tuple(replace(key, rolled_back_from=True) if key == current else key for key in self.keys)
        return replace(self, keys=keys).activated(chosen, policy, now)

    def revoked(
        self, kid: str, reason: str, policy: Policy, now: datetime, *, compromised: bool = False
    ) -> Self:
        """Return the ring without trust in `kid`; if it was current, the next standby signs from `now`."""
        key = self.find(kid)
        if key.revoked_at is not None and key.compromised >= compromised:
            raise NothingToDo(f"{key.kid} was revoked at {instant(key.revoked_at)} already")
        since = key.revoked_at or now
        distrusted = replace(key, revoked_at=since, revoked_reason=reason, compromised=compromised)
        ring = replace(self, keys=tuple(distrusted if each == key else each for each in self.keys))
        if key != self.current(now):
            return ring.scheduled(policy, now)
        standbys = self.standbys(now)
        if not standbys:
            raise Refused(f"{key.kid} is current and there is no standby key to replace it")
        return ring.activated(standbys[0], policy, now)

    def require_current(self, kid: str, now: datetime) -> None:
        """Raise Refused if the signing key is not the one that the operator saw, as the ring changed in between."""
        if self.current(now).kid != kid:
            raise Refused(
                f"{self.current(now).kid} signs now, not {kid}: another operator or the timer was faster;"
                " see: issuer keys list"
            )

    def activated(self, chosen: Key, policy: Policy, now: datetime) -> Self:
        """Return the ring with `chosen` signing from `now`; whether it may is decided before."""
        others = tuple(key for key in self.keys if key != chosen)
        activated = replace(chosen, activates_at=now, rolled_back_from=False)
        return replace(self, keys=(*others, activated)).scheduled(policy, now)

    def _may_be_destroyed(self, key: Key, now: datetime) -> bool:
        """Whether a node may have destroyed a previous key, or may be doing so; its clock may be a margin ahead.

        This is so, too, for a key before one that was rolled back from, because the rollback changed its times:

            activated       A, B, C     A leaves after B's activation
            back to B       A, C, B     A leaves after C's activation, which is later

        A node that decided before the rollback may have destroyed A by the earlier time.
        """
        precedes_rolled_back = any(each.rolled_back_from for each in self._after(key))
        return precedes_rolled_back or (self.leaves_at(key) or now) - key.margin <= now

    def publication(self, now: datetime, standbys: int) -> Published:
        """Return what determines how many keys will be published, with so many standby keys."""
        previous = self._in_phase(Phase.PREVIOUS, now)
        leaving = [at for key in previous if (at := self.leaves_at(key))]
        return Published(leaving, standbys, next((key.activates_at for key in self.standbys(now)), None))

    def _after(self, key: Key) -> tuple[Key, ...]:
        order = self.by_activation
        return order[order.index(key) + 1 :]
