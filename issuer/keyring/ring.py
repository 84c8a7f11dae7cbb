"""The key ring: which key signs, which are published and what is due, as pure functions of `now`.

Making keys and saving the ring is `rotation`'s work; private keys are in `signing`; what one node may do by
what it knows of the ring is defined in `view`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from typing import Self

from issuer.clock import duration, instant
from issuer.errors import NothingToDo, Refused, UnknownKey
from issuer.keyring.key import Key
from issuer.keyring.key_count import Published, fits_document, room_from
from issuer.keyring.policy import PUBLISHED_MOST, Policy
from issuer.signing.public_key import PublicKey

NEVER = datetime.max.replace(tzinfo=UTC)


class Phase(StrEnum):
    """Where a key stands in its life; always derived from `now`, never stored."""

    STANDBY = "standby"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REVOKED = "revoked"


PUBLISHED = frozenset({Phase.STANDBY, Phase.CURRENT, Phase.PREVIOUS})


@dataclass(frozen=True)
class KeyRing:
    """All keys but the retired ones, as one versioned document; of two turns at one instant the later listed counts.

    Revoked keys stay for good, so that none of them ever comes back.
    """

    version: int
    changed_at: datetime
    """When the change was decided that made this version."""
    keys: tuple[Key, ...]
    lead: timedelta
    """The longest lead of any node since the newest key: documents of that day may live as long."""

    @classmethod
    def create(cls, fresh: Iterable[PublicKey], policy: Policy, now: datetime) -> Self:
        """Return a new ring, whose first key signs at once: no older document can be in any cache."""
        first, *rest = (Key.standby(public, policy, now, lead=timedelta(0)) for public in fresh)
        keys = (replace(first, activates_at=now), *rest)
        return cls(version=0, changed_at=now, keys=keys, lead=policy.publish_lead).scheduled(policy, now)

    @cached_property
    def by_activation(self) -> tuple[Key, ...]:
        """The keys in the order of their turns."""
        return tuple(sorted(self.keys, key=lambda key: key.activates_at or NEVER))

    def phase(self, key: Key, now: datetime) -> Phase:
        """Return the phase of `key` at `now`."""
        if key.revoked_at is not None:
            return Phase.REVOKED
        if key == self.current(now):
            return Phase.CURRENT
        if not key.activated_by(now):
            return Phase.STANDBY
        leaves_at = self.leaves_at(key)
        return Phase.RETIRED if leaves_at is not None and leaves_at <= now else Phase.PREVIOUS

    def current(self, now: datetime) -> Key:
        """Return the one key that signs at `now`: the unrevoked one whose turn came last.

        By a clock that is behind, the turn of a revoked key's successor may be yet to come: it is taken all
        the same, and never a key before it, whose retention has begun.
        """
        order = self.by_activation
        started = [place for place, key in enumerate(order) if key.activated_by(now)]
        return next(key for key in order[max(started, default=0) :] if key.revoked_at is None)

    def standbys(self, now: datetime) -> tuple[Key, ...]:
        """Return the keys waiting to sign, in the order in which their turn comes: none is ripe before another."""
        return tuple(key for key in self.by_activation if self.phase(key, now) is Phase.STANDBY)

    def published_keys(self, now: datetime) -> tuple[Key, ...]:
        """Return the keys that belong in the JWKS at `now`."""
        return tuple(key for key in self.keys if self.phase(key, now) in PUBLISHED)

    def superseded_at(self, key: Key) -> datetime | None:
        """Return the instant at which `key` stops signing: when its successor starts, or None."""
        return next((other.activates_at for other in self._after(key) if other.ever_activated), None)

    def leaves_at(self, key: Key) -> datetime | None:
        """Return when the last token of `key` has expired everywhere and the key may leave the JWKS, or None."""
        superseded_at = self.superseded_at(key)
        return superseded_at + key.token_lifetime + key.margin if superseded_at else None

    def decision_instant(self, policy: Policy, clock: datetime) -> datetime:
        """Return the `now` of a change decided by `clock`: by one that is behind, not before the last change.

        No further ahead than S, so that one clock that is quite wrong does not carry the others with it.
        """
        return max(clock, min(self.changed_at, clock + policy.clock_skew))

    def may_sign_from(self, key: Key) -> datetime:
        """Return when every verifier knows `key`, by the rules of the day it was published.

        Shorter settings since then do not shorten the life of documents already given out.
        """
        return key.published_at + key.lead

    def overdue_since(self, policy: Policy, now: datetime) -> datetime | None:
        """Return since when another key should sign in place of the current one, or None."""
        started = self.current(now).activates_at
        if not policy.rotation_period or started is None or started + policy.rotation_period >= now:
            return None
        return started + policy.rotation_period

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

    def shortfall(self, now: datetime, policy: Policy) -> int:
        """Return how many standbys are missing."""
        return max(0, policy.standby_keys - len(self.standbys(now)))

    def published(self, fresh: Iterable[PublicKey], policy: Policy, now: datetime) -> Self:
        """Return the ring with `fresh` keys as standbys, each in its turn.

        A document without them, given out under longer settings or before the key before them, may live on.
        The ring has heard of this policy by then; see `maintained`.
        """
        lead = max(self.lead, *(self.may_sign_from(key) - now for key in self.keys))
        standbys = tuple(Key.standby(public, policy, now, lead) for public in fresh)
        if not standbys:
            return self
        return replace(self, keys=self.keys + standbys, lead=policy.publish_lead).scheduled(policy, now)

    def imported(self, public: PublicKey, policy: Policy, now: datetime) -> Self:
        """Return the ring with a key made elsewhere as the last standby; refuse one that it has, or had revoked."""
        if any(key.kid == public.kid for key in self.keys):
            raise Refused(f"the ring has {public.kid} already; see: issuer keys list")
        self._require_room(policy, now, waiting=len(self.standbys(now)) + 1)
        if not fits_document([*(key.jwk for key in self.published_keys(now)), public.jwk]):
            raise Refused("with so large a key the key set could exceed the 64 KiB that verifiers read")
        ring = self.published([public], policy, now)
        return replace(ring, keys=(*ring.keys[:-1], replace(ring.keys[-1], imported=True)))

    def promoted(self, policy: Policy, now: datetime, *, forced: bool = False) -> Self:
        """Return the ring with the next standby signing from `now`; refuse one that verifiers may not know.

        Forced, it signs all the same: see `may_sign_from` for how long verifiers may refuse it.
        """
        standbys = self.standbys(now)
        if not standbys:
            raise Refused("there is no standby key")
        if not forced:
            self._require_lead(standbys[0], now)
        self._require_room(policy, now, waiting=len(standbys) - 1, replaced=self.current(now))
        return self.activated(standbys[0], policy, now)

    def most_published(self, policy: Policy, now: datetime) -> int:
        """Return the most keys that will be published at once, if only the timer rotates from now on."""
        waiting = max(len(self.standbys(now)), policy.standby_keys)
        turns = self.scheduled(policy, now)  # as a start would set them
        return turns.published_now(now, waiting).most(policy, now)

    def rolled_back(self, policy: Policy, now: datetime, *, forced: bool = False) -> Self:
        """Return the ring with the previous key signing again from `now`; refuse if it may be gone somewhere.

        Within its margin of leaving the JWKS, a node whose clock is ahead may be letting it go at this moment.
        """
        previous = (key for key in reversed(self.by_activation) if self.phase(key, now) is Phase.PREVIOUS)
        chosen = next(previous, None)
        if chosen is None or self._may_be_gone(chosen, now):
            raise Refused(
                "there is no previous key to go back to: it is revoked, or its private key was removed, as its"
                " tokens have expired; rotate to the next key instead: issuer keys rotate"
            )
        if not forced:
            self._require_lead(chosen, now)
            self._require_not_withdrawn(chosen)
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

    def scheduled(self, policy: Policy, now: datetime) -> Self:
        """Return the ring with each standby's turn a rotation period after the one before it.

        A turn within the margin stands: a node may not hear of the change in time. Turns are set when a key
        is published or activated, and by a node that starts, whose period may be new; never while nodes of
        different periods run side by side, or they would overrule each other without end.
        """
        turn = self.current(now).activates_at
        turns: dict[str, datetime | None] = {}
        for key in self.standbys(now):
            soon = now + key.margin
            may_move = (key.activates_at or NEVER) > soon
            turn = self._turn(key, turn, policy, soon) if may_move else key.activates_at
            turns[key.kid] = turn
        keys = (replace(key, activates_at=turns.get(key.kid, key.activates_at)) for key in self.keys)
        return replace(self, keys=tuple(keys))

    def maintained(self, policy: Policy, now: datetime) -> Self:
        """Drop retired keys, and raise each key's recorded lifetime and margin to the current policy.

        They are never lowered, since older tokens and cached key sets may still be valid. A retired key stays while
        a key that it superseded does: its activation tells how long that one is published.
        """
        ended = takewhile(
            lambda key: self.phase(key, now) in {Phase.RETIRED, Phase.REVOKED}, self.by_activation
        )
        gone = [key.kid for key in ended if key.revoked_at is None]
        keys = tuple(self._raised(key, policy, now) for key in self.keys if key.kid not in gone)
        return replace(self, keys=keys, lead=max(self.lead, policy.publish_lead))

    def _raised(self, key: Key, policy: Policy, now: datetime) -> Key:
        if self.phase(key, now) not in {Phase.STANDBY, Phase.CURRENT}:
            return key
        return replace(
            key,
            token_lifetime=max(key.token_lifetime, policy.token_lifetime),
            margin=max(key.margin, policy.margin),
        )

    def require_current(self, kid: str, now: datetime) -> None:
        """Raise Refused if the signing key is not the one that the operator saw: somebody else was faster."""
        if self.current(now).kid != kid:
            raise Refused(
                f"{self.current(now).kid} signs now, not {kid}: another operator or the timer was faster;"
                " see: issuer keys list"
            )

    def _may_be_gone(self, key: Key, now: datetime) -> bool:
        """Whether a node may have let a previous key go, or be doing so.

        A rollback moves the turn of the key that superseded the ones before it: they are kept for longer since,
        and a node that decided before may have destroyed them already.
        """
        passed_over = any(each.rolled_back_from for each in self._after(key))
        return passed_over or (self.leaves_at(key) or now) - key.margin <= now

    def _require_not_withdrawn(self, key: Key) -> None:
        if key.rolled_back_from:
            raise Refused(
                f"{key.kid} was rolled back; rotate to the next key instead: issuer keys rotate"
                " (or use --force and --reason)"
            )

    def _require_lead(self, key: Key, now: datetime) -> None:
        allowed_from = self.may_sign_from(key)
        if allowed_from > now:
            raise Refused(
                f"not before {instant(allowed_from)}: {key.kid} was published at {instant(key.published_at)}, and a"
                f" verifier may hold a key set without it for {duration(key.lead)} (ISSUER_PUBLISH_LEAD)",
                allowed_from,
            )

    def published_now(self, now: datetime, waiting: int) -> Published:
        """Return what counts for how many keys will be published, with so many standby keys."""
        previous = (key for key in self.keys if self.phase(key, now) is Phase.PREVIOUS)
        leaving = [at for key in previous if (at := self.leaves_at(key))]
        return Published(leaving, waiting, next((key.activates_at for key in self.standbys(now)), None))

    def _require_room(
        self, policy: Policy, now: datetime, *, waiting: int, replaced: Key | None = None
    ) -> None:
        """Refuse what would publish more keys than verifiers read, forced or not: they would refuse them all."""
        published = self.published_now(now, max(waiting, policy.standby_keys))
        keeps = max(policy.retention, replaced.token_lifetime + replaced.margin) if replaced else None
        allowed_from = room_from(published, policy, now, keeps)
        if allowed_from != now:
            when = f"not before {instant(allowed_from)}" if allowed_from else "not with these settings"
            raise Refused(
                f"{when}: {len(published.leaving)} replaced keys are still published, as their tokens may be valid"
                f" (ISSUER_ACCESS_TOKEN_LIFETIME is {duration(policy.token_lifetime)}), and with one more the key set"
                f" could reach more than {PUBLISHED_MOST} keys, which verifiers refuse as a whole; replace a stolen"
                " key by revoking it, which adds none",
                allowed_from,
            )

    def _after(self, key: Key) -> tuple[Key, ...]:
        order = self.by_activation
        return order[order.index(key) + 1 :]

    def activated(self, chosen: Key, policy: Policy, now: datetime) -> Self:
        """Return the ring with `chosen` signing from `now`; whether it may is decided before."""
        others = tuple(key for key in self.keys if key != chosen)
        begun = replace(chosen, activates_at=now, rolled_back_from=False)
        return replace(self, keys=(*others, begun)).scheduled(policy, now)

    def _turn(self, key: Key, before: datetime | None, policy: Policy, soon: datetime) -> datetime | None:
        if not (policy.rotation_period and before):
            return None
        return max(before + policy.rotation_period, self.may_sign_from(key), soon)
