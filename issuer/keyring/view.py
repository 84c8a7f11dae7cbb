"""What one node may do by what it knows of the ring, and what the others may expect of it, as functions of `now`.

Refreshing a view and sending heartbeats is `keeping`'s work.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Self

from issuer.errors import KeyUnavailable, StaleView
from issuer.keyring.key import Key
from issuer.keyring.policy import Policy, duration, instant
from issuer.keyring.ring import PUBLISHED, KeyRing


@dataclass(frozen=True)
class View:
    """What one node knows of the ring, and when it last knew it to be true.

    Judged at each request, so that a process stopped and resumed never acts on an old view.
    """

    ring: KeyRing
    refreshed_at: datetime
    opened: frozenset[str]
    """The kids whose private keys are ready to sign here."""

    def signing_key(self, policy: Policy, now: datetime) -> Key:
        """Return the key that signs at `now`; raise StaleView when other nodes may have moved on without us.

        A clock that was set back does not make a view young again. Raise KeyUnavailable if it does not open here:
        the node goes on publishing by this view all the same.
        """
        if abs(now - self.refreshed_at) > policy.node_timeout:
            raise StaleView(
                f"this node last saw the key ring at {instant(self.refreshed_at)}, more than"
                f" {duration(policy.node_timeout)} (ISSUER_NODE_TIMEOUT) ago"
            )
        # Who has seen a change knows that its instant has come, even by a clock that is behind.
        key = self.ring.current(self.ring.decision_instant(policy, now))
        if key.kid not in self.opened:
            raise KeyUnavailable(f"the current key {key.kid} cannot be opened on this node; see its log")
        return key

    @cached_property
    def published_keys(self) -> tuple[Key, ...]:
        """The keys for the JWKS: while it is blind, a node drops none.

        A key that was about to retire may have been called back by a rollback since.
        """
        return tuple(key for key in self.ring.keys if self.ring.phase(key, self.refreshed_at) in PUBLISHED)

    def max_age(self, policy: Policy, now: datetime) -> timedelta:
        """Return for how long the JWKS may be cached; raise StaleView when it must not be served at all."""
        last = self.refreshed_at + policy.publish_without_database + policy.max_age
        if last <= now or self.refreshed_at - now > policy.node_timeout:
            raise StaleView(f"this node last saw the key ring at {instant(self.refreshed_at)}")
        return min(policy.max_age, last - now)


@dataclass(frozen=True)
class Heartbeat:
    """One process of a node: the ring version that it acknowledges, and what it can still do if it falls silent."""

    id: str
    name: str
    version: int
    refreshed_at: datetime
    signs_until: datetime
    served_until: datetime
    """When the last document that it can have served runs out in caches."""
    max_age: timedelta

    @classmethod
    def of(cls, process_id: str, name: str, version: int, policy: Policy, now: datetime) -> Self:
        """Return the heartbeat at `now` of a process under `policy`; the next one comes within the interval."""
        silent = now + policy.heartbeat_interval
        return cls(
            id=process_id,
            name=name,
            version=version,
            refreshed_at=now,
            signs_until=silent + policy.node_timeout,
            served_until=silent + policy.publish_without_database + policy.max_age,
            max_age=policy.max_age,
        )

    def last(self, now: datetime) -> Self:
        """Return the heartbeat of the process when it ends: what it served stays valid for a while."""
        return replace(self, refreshed_at=now, signs_until=now, served_until=now + self.max_age)

    @property
    def has_left(self) -> bool:
        """Whether this is the heartbeat of a process that ended and said so."""
        return self.signs_until == self.refreshed_at


@dataclass(frozen=True)
class Acknowledgement:
    """Which processes have picked up one version of the ring, as told by heartbeats at one instant."""

    done: tuple[Heartbeat, ...]
    waiting: tuple[Heartbeat, ...]
    """They have not, and may still sign: worth waiting for."""
    silent: tuple[Heartbeat, ...]
    """They have not, and documents that they served may be alive."""
    refused_from: datetime
    """From then on every verifier that honours max-age refuses what the version revoked.

    M + S from now for those that have picked it up, each by its own max-age; the others for as long as what they
    served may live.
    """

    @classmethod
    def of(cls, beats: Iterable[Heartbeat], version: int, policy: Policy, now: datetime) -> Self:
        """Return it for `version` at `now`."""
        done: list[Heartbeat] = []
        behind: list[Heartbeat] = []
        for beat in beats:
            if beat.served_until + policy.clock_skew > now:
                (done if beat.version >= version else behind).append(beat)
        silent = [beat for beat in behind if not beat.has_left]
        waiting = [beat for beat in silent if beat.signs_until + policy.clock_skew > now]
        lasting = [beat.served_until for beat in behind] + [now + beat.max_age for beat in done]
        # By the M of who asks at least: a database restored from a backup lacks the heartbeats since.
        refused_from = max([now + policy.max_age, *lasting]) + policy.clock_skew
        running = tuple(beat for beat in done if not beat.has_left)
        return cls(running, tuple(waiting), tuple(silent), refused_from)
