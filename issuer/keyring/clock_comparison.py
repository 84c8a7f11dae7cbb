"""The clock of this machine compared with that of the database: no decision is based on a clock that is too far off.

SQLite has no clock of its own, so there nothing is compared.
"""

from datetime import timedelta

from issuer.clock import Clock, duration, instant
from issuer.errors import WrongClock
from issuer.keyring.policy import DECISION_LIFETIME, Policy
from issuer.keyring.store import RingStore

WARN_ABOVE = timedelta(seconds=5)
"""Key rotation is safe up to S, but some verifiers tolerate only a few seconds, or none."""


class ClockComparison:
    """Compares the two clocks, and keeps the latest result."""

    def __init__(self, store: RingStore, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self.ahead: timedelta | None = None
        """By how much the clock of this machine was ahead; None where the database has none of its own."""

    def require(self) -> None:
        """Compare now; raise WrongClock if the clocks differ by more than S."""
        before, shared, own = self._clock(), self._store.clock(), self._clock()
        # The time that the query took is not counted against either clock.
        self.ahead = None if shared is None else min(own, max(before, shared)) - shared
        if self.ahead and abs(self.ahead) > self._policy.clock_skew + DECISION_LIFETIME:
            raise WrongClock(
                f"the clock of this machine says {instant(own)} and that of the database {instant(own - self.ahead)}:"
                f" they may differ by {duration(self._policy.clock_skew)} (ISSUER_CLOCK_SKEW); set this one, by NTP"
            )

    def warning(self) -> str | None:
        """Return that the clocks differ by more than verifiers can be expected to allow for, or None."""
        if self.ahead is None or abs(self.ahead) <= WARN_ABOVE:
            return None
        apart, harm = "behind", "tokens expire earlier than other machines expect"
        if self.ahead > WARN_ABOVE:
            apart, harm = (
                "ahead of",
                "verifiers that allow for less refuse new tokens as issued in the future",
            )
        return (
            f"the clock of this machine is more than {duration(WARN_ABOVE)} {apart} that of the database, so that"
            f" {harm}: set both by NTP"
        )
