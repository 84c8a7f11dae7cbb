"""How many keys are published at once: verifiers read a bounded number of keys and bytes, and refuse larger sets.

Which settings keep the timer within the bound is decided in `policy`; moves by operators are refused by `keyring`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.keyring.policy import PUBLISHED_MOST, Policy

DOCUMENT_MOST_BYTES = 64 * 1024
KEY_BYTES = 520
"""At most what one RSA key of 2048 bits takes of the key set; imported ones may be larger."""


@dataclass(frozen=True)
class Published:
    """What is published, as far as it counts for how many keys there will be."""

    leaving: Sequence[datetime]
    """When the replaced keys leave."""
    waiting: int
    """How many standby keys there are."""
    next_turn: datetime | None
    """When the timer replaces the current key."""

    def most(self, policy: Policy, now: datetime) -> int:
        """Return the most keys that are published at once from `now` on, if only the timer rotates."""
        known = self.waiting + 1  # and the current one
        instants = [now]
        if policy.rotation_period and self.next_turn:
            turns = -(-policy.retention // policy.rotation_period)
            instants += [self.next_turn + turn * policy.rotation_period for turn in range(turns)]
        return max(
            known + turn + sum(leaves_at > at for leaves_at in self.leaving)
            for turn, at in enumerate(instants)
        )

    def by(self, policy: Policy, at: datetime) -> "Published":
        """Return what is published at a later instant, after the turns that the timer has made by then."""
        leaving, turn = list(self.leaving), self.next_turn
        while policy.rotation_period and turn and turn <= at:
            leaving.append(turn + policy.retention)
            turn += policy.rotation_period
        return Published([each for each in leaving if each > at], self.waiting, turn)

    def replaced(self, policy: Policy, at: datetime, keeps: timedelta) -> "Published":
        """Return what is published if the current key is replaced, and stays published for `keeps`."""
        turn = at + policy.rotation_period if policy.rotation_period else None
        return Published([*self.leaving, at + keeps], self.waiting, turn)


def room_from(
    published: Published, policy: Policy, now: datetime, keeps: timedelta | None
) -> datetime | None:
    """Return the first instant at which there is room for a move, or None if time alone does not make it.

    The move replaces the current key, which stays published for `keeps`; with None it only adds a standby key.
    """
    for at in (now, *sorted(each for each in published.leaving if each > now)):
        then = published.by(policy, at)
        after = then if keeps is None else then.replaced(policy, at, keeps)
        if after.most(policy, at) <= PUBLISHED_MOST:
            return at
    return None


def fits_document(jwks: Iterable[Mapping[str, str]]) -> bool:
    """Whether a key set with these keys, and with as many more as there may be, stays within what is read."""
    sizes = [len(json.dumps(jwk)) for jwk in jwks]
    return sum(sizes) + max(0, PUBLISHED_MOST - len(sizes)) * KEY_BYTES <= DOCUMENT_MOST_BYTES
