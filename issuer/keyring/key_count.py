"""How many keys are published at once: verifiers read a bounded number of keys and bytes, and refuse larger sets.

`policy` decides which settings keep the timer within the bound; operations of operators are checked here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.clock import duration, instant
from issuer.errors import Refused
from issuer.keyring.policy import PUBLISHED_MOST, Policy

DOCUMENT_MOST_BYTES = 64 * 1024
KEY_BYTES = 520
"""The most that one RSA key of 2048 bits takes of the key set; imported keys may be larger."""


@dataclass(frozen=True)
class Published:
    """The published keys, as far as they determine how many keys there will be."""

    leaving: Sequence[datetime]
    """When each replaced key leaves."""
    standbys: int
    next_activation: datetime | None
    """When the timer replaces the current key."""

    def most(self, policy: Policy, now: datetime) -> int:
        """Return the most keys that are published at once from `now` on, if only the timer rotates."""
        known = self.standbys + 1  # and the current one
        instants = [now]
        if policy.rotation_period and self.next_activation:
            rotations = -(-policy.retention // policy.rotation_period)
            instants += [self.next_activation + each * policy.rotation_period for each in range(rotations)]
        return max(
            known + rotations + sum(leaves_at > at for leaves_at in self.leaving)
            for rotations, at in enumerate(instants)
        )

    def by(self, policy: Policy, at: datetime) -> "Published":
        """Return what is published at a later instant, after the rotations of the timer until then."""
        leaving, activation = list(self.leaving), self.next_activation
        while policy.rotation_period and activation and activation <= at:
            leaving.append(activation + policy.retention)
            activation += policy.rotation_period
        return Published([each for each in leaving if each > at], self.standbys, activation)

    def replaced(self, policy: Policy, at: datetime, retention: timedelta) -> "Published":
        """Return what is published if the current key is replaced, and stays published for `retention`."""
        activation = at + policy.rotation_period if policy.rotation_period else None
        return Published([*self.leaving, at + retention], self.standbys, activation)

    def room_from(self, policy: Policy, now: datetime, retention: timedelta | None) -> datetime | None:
        """Return the first instant at which there is room for an operation, or None if waiting does not help.

        The operation replaces the current key, which stays published for `retention`; with None it only adds a
        standby key.
        """
        for at in (now, *sorted(each for each in self.leaving if each > now)):
            then = self.by(policy, at)
            after = then if retention is None else then.replaced(policy, at, retention)
            if after.most(policy, at) <= PUBLISHED_MOST:
                return at
        return None

    def require_room(self, policy: Policy, now: datetime, retention: timedelta | None = None) -> None:
        """Refuse an operation, as in `room_from`, after which verifiers would refuse the whole key set."""
        allowed_from = self.room_from(policy, now, retention)
        if allowed_from != now:
            when = f"not before {instant(allowed_from)}" if allowed_from else "not with these settings"
            raise Refused(
                f"{when}: {len(self.leaving)} replaced keys are still published, as their tokens may be valid"
                f" (ISSUER_ACCESS_TOKEN_LIFETIME is {duration(policy.token_lifetime)}), and with one more the key set"
                f" could reach more than {PUBLISHED_MOST} keys, which verifiers refuse as a whole; if a key was"
                " stolen, revoke it: this adds no key",
                allowed_from,
            )


def require_document_size(jwks: Iterable[Mapping[str, str]]) -> None:
    """Refuse a key set that could exceed what verifiers read: these keys, and as many more as there may be."""
    sizes = [len(json.dumps(jwk)) for jwk in jwks]
    if sum(sizes) + max(0, PUBLISHED_MOST - len(sizes)) * KEY_BYTES > DOCUMENT_MOST_BYTES:
        raise Refused("with so large a key the key set could exceed the 64 KiB that verifiers read")
