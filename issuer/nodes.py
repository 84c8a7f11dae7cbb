"""What one node may do by what it knows of the ring, and what the others may expect of it, as functions of `now`.

Refreshing a view and sending heartbeats is `rotation`'s work.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.keyring import PUBLISHED, Key, KeyRing, StaleView
from issuer.policy import Policy, duration, instant


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

    def published_keys(self) -> tuple[Key, ...]:
        """Return the keys for the JWKS: while it is blind, a node drops none.

        A key that was about to retire may have been called back by a rollback since.
        """
        return tuple(key for key in self.ring.keys if self.ring.phase(key, self.refreshed_at) in PUBLISHED)

    def max_age(self, policy: Policy, now: datetime) -> timedelta:
        """Return for how long the JWKS may be cached; raise StaleView when it must not be served at all."""
        last = self.refreshed_at + policy.publish_without_database + policy.max_age
        if last <= now:
            raise StaleView(f"this node last saw the key ring at {instant(self.refreshed_at)}")
        return min(policy.max_age, last - now)


@dataclass(frozen=True)
class Heartbeat:
    """One process of a node: the ring version that it acknowledges, and when it last looked."""

    id: str
    name: str
    version: int
    refreshed_at: datetime

    def signs_until(self, policy: Policy) -> datetime:
        """Return when it has stopped signing, if this was its last heartbeat."""
        return self._last_refresh(policy) + policy.node_timeout + policy.clock_skew

    def published_until(self, policy: Policy) -> datetime:
        """Return when the last document that it served runs out in caches, if this was its last heartbeat."""
        served = policy.publish_without_database + policy.max_age
        return self._last_refresh(policy) + served + policy.clock_skew

    def _last_refresh(self, policy: Policy) -> datetime:
        """Return the latest instant at which it can have looked without telling."""
        return self.refreshed_at + policy.heartbeat_interval


def waited_for(beats: tuple[Heartbeat, ...], version: int, policy: Policy, now: datetime) -> list[Heartbeat]:
    """Return the processes that have not acknowledged `version` and may still sign: worth waiting for."""
    return [beat for beat in beats if beat.version < version and beat.signs_until(policy) > now]


def silent(beats: tuple[Heartbeat, ...], version: int, policy: Policy, now: datetime) -> list[Heartbeat]:
    """Return the processes that have not acknowledged `version` and of which documents may be alive."""
    return [beat for beat in beats if beat.version < version and beat.published_until(policy) > now]


def refused_from(beats: tuple[Heartbeat, ...], version: int, policy: Policy, now: datetime) -> datetime:
    """Return from when every verifier that honours max-age refuses what `version` revoked, as known at `now`.

    M + S from now for those that acknowledged it; the others as long as what they served may live.
    """
    lasting = [beat.published_until(policy) for beat in silent(beats, version, policy, now)]
    return max([now + policy.max_age + policy.clock_skew, *lasting])
