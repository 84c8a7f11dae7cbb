"""A node's copy of the key ring: which key it may sign with and which keys it publishes, as functions of `now`.

Refreshing the view and sending heartbeats is left to `node`.
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
    """The ring as a node last read it, and when.

    It is checked at each request, so that a process that was stopped and resumed never acts on an old view.
    """

    ring: KeyRing
    refreshed_at: datetime
    opened: frozenset[str]
    """The kids whose private keys are ready to sign here."""

    def signing_key(self, policy: Policy, now: datetime) -> Key:
        """Return the key that signs at `now`; raise StaleView if the view is older than the node timeout.

        A view from the future is stale, too: the clock was set back. Raise KeyUnavailable if the key cannot be opened
        on this node, which continues to publish by this view.
        """
        if abs(now - self.refreshed_at) > policy.node_timeout:
            raise StaleView(
                f"this node last read the key ring at {instant(self.refreshed_at)}, more than"
                f" {duration(policy.node_timeout)} (ISSUER_NODE_TIMEOUT) ago"
            )
        # A change that this node has seen has happened, even if its clock is behind.
        key = self.ring.current(self.ring.decision_instant(policy, now))
        if key.kid not in self.opened:
            raise KeyUnavailable(f"the current key {key.kid} cannot be opened on this node; see its log")
        return key

    @cached_property
    def published_keys(self) -> tuple[Key, ...]:
        """The keys for the JWKS at the last refresh.

        None is dropped later: a key that was about to retire may sign again after a rollback that was not seen yet.
        """
        return tuple(key for key in self.ring.keys if self.ring.phase(key, self.refreshed_at) in PUBLISHED)

    def max_age(self, policy: Policy, now: datetime) -> timedelta:
        """Return how long the JWKS may be cached; raise StaleView when it must not be served any more."""
        last = self.refreshed_at + policy.publish_without_database + policy.max_age
        if last <= now or self.refreshed_at - now > policy.node_timeout:
            raise StaleView(f"this node last read the key ring at {instant(self.refreshed_at)}")
        return min(policy.max_age, last - now)
