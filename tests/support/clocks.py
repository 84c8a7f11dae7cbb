"""Nodes of one installation whose clocks differ, and clocks that step: what every comparison of instants is run with.

`PATTERNS` are the shifts that ISSUER_CLOCK_SKEW allows between two nodes. What lies beyond it is a step.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.database.database import Database
from issuer.oauth import LoginFailed, TooManyAttempts
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore
from support.defaults import MovableClock

SKEW = timedelta(seconds=30)
"""The default of ISSUER_CLOCK_SKEW."""
PATTERNS: Mapping[str, tuple[timedelta, timedelta]] = {
    "alike": (timedelta(0), timedelta(0)),
    "half the skew ahead and behind": (SKEW / 2, -SKEW / 2),
    "half the skew behind and ahead": (-SKEW / 2, SKEW / 2),
    "one right and one ahead": (timedelta(0), SKEW),
    "one right and one behind": (timedelta(0), -SKEW),
}
STEP = timedelta(hours=1)
ADMITTED = timedelta(0)


class ShiftedClock:
    """A node's clock: the true time plus an offset."""

    def __init__(self, truth: MovableClock, shift: timedelta = ADMITTED) -> None:
        self._truth = truth
        self.shift = shift

    def __call__(self) -> datetime:
        return self._truth() + self.shift


@dataclass
class Gate:
    """The log-in guard of one node; nothing is hashed, the test says whether the password is right."""

    guard: Guard
    clock: ShiftedClock

    @classmethod
    def of(cls, database: Database, clock: ShiftedClock) -> "Gate":
        return cls(Guard(ThrottleStore(database)), clock)

    def attempt(self, account: str, address: str, *, right: bool) -> timedelta:
        """Return how long the attempt has to wait; zero if it was made."""
        origin, now = Origin(address=address), self.clock()
        try:
            self.guard.check(account, origin, now)
            with suppress(LoginFailed), self.guard.log_in(account, origin, now) as may_succeed:
                _require(right and may_succeed)
        except TooManyAttempts as refusal:
            return refusal.retry_after or ADMITTED
        return ADMITTED


def _require(succeeds: bool) -> None:
    if not succeeds:
        raise LoginFailed
