"""The key ring: which key signs, which are published and what is due, as pure functions of `now`.

Making keys and saving the ring is `rotation`'s work; private halves live in `signing`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

NEVER = datetime.max.replace(tzinfo=UTC)


class Phase(StrEnum):
    """Where a key stands in its life; always derived from `now`, never stored."""

    STANDBY = "standby"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REVOKED = "revoked"


PUBLISHED = frozenset({Phase.STANDBY, Phase.CURRENT, Phase.PREVIOUS})


class KeyRingError(Exception):
    """Anything the ring says no to.

    KeyRingError
      Refused        a guard holds; `allowed_from` says until when, where time alone mends it
      UnknownKey     no key, or more than one, answers to that name
      NothingToDo    the ring is already as asked
      BadPolicy      the settings cannot keep the promises
      StaleView      this node has not seen the ring for so long that it must not sign
      KeyUnavailable a private key is missing, damaged, unreadable or under another passphrase
    """


class Refused(KeyRingError):
    """A guard holds; `allowed_from` is the instant from which the same move is allowed, if time mends it."""

    def __init__(self, message: str, allowed_from: datetime | None = None) -> None:
        super().__init__(message)
        self.allowed_from = allowed_from


class UnknownKey(KeyRingError):
    """No key, or more than one, answers to that name."""


class NothingToDo(KeyRingError):
    """The ring is already as asked."""


class BadPolicy(KeyRingError):
    """The settings cannot keep the promises; the message shows the arithmetic."""


class StaleView(KeyRingError):
    """The view that this node has of the ring is too old to act on."""


class KeyUnavailable(KeyRingError):
    """A private key is missing, damaged, unreadable or under another passphrase; says which, and what to do."""


@dataclass(frozen=True)
class Policy:
    """The timing rules; each field is a setting."""

    algorithm: str
    token_lifetime: timedelta
    """T: how long an access token lives."""
    rotation_period: timedelta
    """How long a key signs; zero means that only an operator rotates."""
    publish_lead: timedelta
    """How long a key is published before it may sign."""
    max_age: timedelta
    """M: the max-age served with the JWKS."""
    node_timeout: timedelta
    """R: after this every node has seen a change or has stopped signing."""
    outage_limit: timedelta
    """O, as configured: how long a node that lost the database goes on publishing what it knows."""
    clock_skew: timedelta
    """S: how far clocks may differ."""
    standby_keys: int = 1

    def __post_init__(self) -> None:
        least = self.max_age + self.node_timeout + self.clock_skew
        if self.publish_lead < least:
            raise BadPolicy(
                f"ISSUER_PUBLISH_LEAD is {duration(self.publish_lead)} but must be at least ISSUER_JWKS_MAX_AGE"
                f" {duration(self.max_age)} + ISSUER_NODE_TIMEOUT {duration(self.node_timeout)} +"
                f" ISSUER_CLOCK_SKEW {duration(self.clock_skew)} = {duration(least)}: a verifier may hold a"
                " document without the new key for that long"
            )
        if self.rotation_period and self.rotation_period < self.publish_lead:
            raise BadPolicy(
                f"ISSUER_ROTATION_PERIOD is {duration(self.rotation_period)} but must be 0 (only by hand) or"
                f" at least ISSUER_PUBLISH_LEAD {duration(self.publish_lead)}: each key is published that long"
                " before it signs"
            )
        if self.outage_limit < self.node_timeout:
            raise BadPolicy(
                f"ISSUER_OUTAGE_LIMIT is {duration(self.outage_limit)} but must be at least"
                f" ISSUER_NODE_TIMEOUT {duration(self.node_timeout)}: a node that signs must publish its key"
            )
        if not self.token_lifetime or not self.node_timeout or self.standby_keys < 1:
            raise BadPolicy(
                "ISSUER_ACCESS_TOKEN_LIFETIME and ISSUER_NODE_TIMEOUT must be more than 0s and"
                " ISSUER_STANDBY_KEYS at least 1"
            )

    @property
    def publish_without_database(self) -> timedelta:
        """O as it is in force: with a short lead it shrinks, so that no stale document outlives the lead."""
        return min(self.outage_limit, self.publish_lead - self.max_age - self.clock_skew)


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key: `kid` is the RFC 7638 SHA-256 thumbprint of `jwk` (RFC 7517)."""

    kid: str
    alg: str
    jwk: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Key(PublicKey):
    """The facts about one key. It signs from `activates_at` until its successor's `activates_at`."""

    published_at: datetime
    activates_at: datetime | None
    """None: published, and activated by an operator's hand only."""
    token_lifetime: timedelta
    """The longest life that any node was allowed to give a token this key signed."""
    revoked_at: datetime | None = None
    revoked_reason: str | None = None

    def activated_by(self, now: datetime) -> bool:
        """Tell whether the key had begun to sign at `now`; one revoked before its turn never did."""
        if self.activates_at is None or self.activates_at > now:
            return False
        return self.revoked_at is None or self.revoked_at > self.activates_at

    @property
    def ever_activated(self) -> bool:
        """Tell whether the key has a turn that was not, and will not be, forestalled by its revocation."""
        return self.activates_at is not None and self.activated_by(self.activates_at)


@dataclass(frozen=True)
class KeyRing:
    """All keys that are not yet forgotten, as one versioned document."""

    version: int
    keys: tuple[Key, ...]
    founders: tuple[str, ...]
    """The kids of the first save: no older document can be in any cache, so they are exempt from the lead."""

    @classmethod
    def found(cls, fresh: Iterable[PublicKey], policy: Policy, now: datetime) -> Self:
        """Return a new ring, whose first key signs at once."""
        first, *rest = fresh
        current = replace(_standby(first, policy, now), activates_at=now)
        founders = (first.kid, *(key.kid for key in rest))
        return cls(version=0, keys=(current,), founders=founders).published(rest, policy, now)

    def phase(self, key: Key, now: datetime, policy: Policy) -> Phase:
        """Return the phase of `key` at `now`."""
        if key.revoked_at is not None:
            return Phase.REVOKED
        if key == self.current(now):
            return Phase.CURRENT
        if not key.activated_by(now):
            return Phase.STANDBY
        leaves_at = self.leaves_at(key, policy)
        return Phase.RETIRED if leaves_at is not None and leaves_at <= now else Phase.PREVIOUS

    def current(self, now: datetime) -> Key:
        """Return the one key that signs at `now`: unrevoked, with the latest `activates_at` that has come.

        A node whose clock is behind may see a ring whose first turn is yet to come: it takes that key.
        """
        trusted = [key for key in self._in_order() if key.revoked_at is None]
        return next((key for key in reversed(trusted) if key.activated_by(now)), trusted[0])

    def standbys(self, now: datetime) -> tuple[Key, ...]:
        """Return the keys waiting to sign, in the order in which their turn comes."""
        return tuple(key for key in self._in_order() if self._waits(key, now))

    def published_keys(self, now: datetime, policy: Policy) -> tuple[Key, ...]:
        """Return the keys that belong in the JWKS at `now`."""
        return tuple(key for key in self.keys if self.phase(key, now, policy) in PUBLISHED)

    def superseded_at(self, key: Key) -> datetime | None:
        """Return the instant at which `key` stops signing: when its successor starts, or None."""
        order = self._in_order()
        later = order[order.index(key) + 1 :] if key.activates_at else ()
        return next((other.activates_at for other in later if other.ever_activated), None)

    def leaves_at(self, key: Key, policy: Policy) -> datetime | None:
        """Return when the last token of `key` is dead everywhere and it may leave the JWKS, or None.

        A node cut off may sign with it for R after a manual move, hence the R.
        """
        superseded_at = self.superseded_at(key)
        if superseded_at is None:
            return None
        return superseded_at + policy.node_timeout + key.token_lifetime + policy.clock_skew

    def refused_from(self, key: Key, policy: Policy) -> datetime | None:
        """Return when the last verifier that honours max-age refuses a revoked `key`, or None.

        Nodes take up to R to hear of it, and a document fetched until then lives for M.
        """
        if key.revoked_at is None:
            return None
        return key.revoked_at + policy.node_timeout + policy.max_age + policy.clock_skew

    def ripe_at(self, key: Key, policy: Policy) -> datetime:
        """Return when every verifier knows `key`: published for the lead, or part of the first save."""
        exempt = key.kid in self.founders
        return key.published_at if exempt else key.published_at + policy.publish_lead

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
        """Return the ring with `fresh` keys as standbys, each in its turn."""
        standbys = tuple(_standby(public, policy, now) for public in fresh)
        return replace(self, keys=self.keys + standbys).scheduled(policy, now)

    def promoted(self, policy: Policy, now: datetime) -> Self:
        """Return the ring with the next standby signing from `now`; refuse one that verifiers may not know."""
        standbys = self.standbys(now)
        if not standbys:
            raise Refused("there is no standby key")
        ripe = [key for key in standbys if self.ripe_at(key, policy) <= now]
        if not ripe:
            youngest = min(standbys, key=lambda key: self.ripe_at(key, policy))
            raise Refused(
                f"standby {youngest.kid} was published at {instant(youngest.published_at)} and may sign"
                f" {duration(policy.publish_lead)} (ISSUER_PUBLISH_LEAD) later: until then a verifier may hold"
                " a key set without it",
                self.ripe_at(youngest, policy),
            )
        return self.activated(ripe[0], policy, now)

    def revoked(self, kid: str, reason: str, policy: Policy, now: datetime) -> Self:
        """Return the ring without trust in `kid`; if it was current, the ripest standby signs from `now`."""
        key = self.find(kid)
        if key.revoked_at is not None:
            raise NothingToDo(f"{key.kid} was revoked at {instant(key.revoked_at)} already")
        distrusted = replace(key, revoked_at=now, revoked_reason=reason)
        ring = replace(self, keys=tuple(distrusted if each == key else each for each in self.keys))
        if key != self.current(now):
            return ring
        standbys = self.standbys(now)
        if not standbys:
            raise Refused(f"{key.kid} is current and there is no standby to take over")
        return ring.activated(min(standbys, key=lambda each: ring.ripe_at(each, policy)), policy, now)

    def scheduled(self, policy: Policy, now: datetime) -> Self:
        """Return the ring with each standby's turn a rotation period after the one before it.

        A turn that comes within R stands: a node may not hear of the change in time.
        """
        soon = now + policy.node_timeout
        turn = self.current(now).activates_at
        turns: dict[str, datetime | None] = {}
        for key in self.standbys(now):
            may_move = (key.activates_at or NEVER) > soon
            turn = self._turn(key, turn, policy, soon) if may_move else key.activates_at
            turns[key.kid] = turn
        return replace(
            self,
            keys=tuple(replace(key, activates_at=turns.get(key.kid, key.activates_at)) for key in self.keys),
        )

    def tended(self, policy: Policy, now: datetime) -> Self:
        """Return the ring with everything done that needs no new key.

        Lifetimes are raised before any node may sign a token that long, and never lowered, as tokens of
        the old length may be alive; retired keys are dropped; turns follow the rotation period.
        """
        living = [key for key in self.keys if self.phase(key, now, policy) is not Phase.RETIRED]
        signs = {Phase.STANDBY, Phase.CURRENT}
        raised = [
            replace(key, token_lifetime=max(key.token_lifetime, policy.token_lifetime))
            if self.phase(key, now, policy) in signs
            else key
            for key in living
        ]
        return replace(self, keys=tuple(raised)).scheduled(policy, now)

    def _in_order(self) -> list[Key]:
        """Return the keys in the order of their turns; of two at one instant, the later published is later."""
        return sorted(self.keys, key=lambda key: key.activates_at or NEVER)

    def _waits(self, key: Key, now: datetime) -> bool:
        return key.revoked_at is None and not key.activated_by(now) and key != self.current(now)

    def activated(self, chosen: Key, policy: Policy, now: datetime) -> Self:
        """Return the ring with `chosen` signing from `now`; whether it may is decided before."""
        keys = tuple(replace(key, activates_at=now) if key == chosen else key for key in self.keys)
        return replace(self, keys=keys).scheduled(policy, now)

    def _turn(self, key: Key, before: datetime | None, policy: Policy, soon: datetime) -> datetime | None:
        if not policy.rotation_period or before is None:
            return None
        return max(before + policy.rotation_period, self.ripe_at(key, policy), soon)


@dataclass(frozen=True)
class View:
    """What one node knows of the ring, and when it last knew it to be true.

    Judged at each request, so that a process stopped and resumed never acts on an old view.
    """

    ring: KeyRing
    refreshed_at: datetime

    def signing_key(self, policy: Policy, now: datetime) -> Key:
        """Return the key that signs at `now`; raise StaleView when other nodes may have moved on without us."""
        if now - self.refreshed_at > policy.node_timeout:
            raise StaleView(
                f"this node last saw the key ring at {instant(self.refreshed_at)}, more than"
                f" {duration(policy.node_timeout)} (ISSUER_NODE_TIMEOUT) ago"
            )
        return self.ring.current(now)

    def max_age(self, policy: Policy, now: datetime) -> timedelta:
        """Return for how long the JWKS may be cached; raise StaleView when it must not be served at all."""
        last = self.refreshed_at + policy.publish_without_database + policy.max_age
        if last <= now:
            raise StaleView(f"this node last saw the key ring at {instant(self.refreshed_at)}")
        return min(policy.max_age, last - now)


def instant(when: datetime) -> str:
    """Return `when` as people and scripts read it, in UTC, RFC 3339."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(span: timedelta) -> str:
    """Return `span` in the form in which settings are written: `30d`, `24h`, `10m`, `45s`."""
    whole = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{span.total_seconds():g}s"


def _standby(public: PublicKey, policy: Policy, now: datetime) -> Key:
    return Key(public.kid, public.alg, public.jwk, now, None, policy.token_lifetime)
