"""What one node may do by what it knows of the ring, and what the others may expect of it, as functions of `now`.

Refreshing a view and sending heartbeats is `node`'s work.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from issuer.clock import duration, instant
from issuer.errors import KeyUnavailable, StaleView
from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
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
