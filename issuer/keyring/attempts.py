"""Attempts to save a decision about the ring: it is repeated if it took too long or another process was first.

What is decided is left to `rotation` and `recovery`.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

from issuer.clock import Clock
from issuer.database.errors import DatabaseUnavailable
from issuer.keyring.policy import DECISION_LIFETIME
from issuer.keyring.ring import KeyRing

ATTEMPTS: Final = 50
"""Losing the race this often means that something else is wrong."""


class TooManyAttempts(DatabaseUnavailable):
    """No attempt saved the ring."""


class Retry(StrEnum):
    """Why an attempt saved nothing and the decision must be repeated."""

    KEY_DESTROYED = "another process destroyed a private key"
    TOO_LATE = "the decision took too long"
    NOT_FIRST = "another process changed it first, or the database took too long"


def save_within_attempts(attempt: Callable[[], KeyRing | Retry]) -> KeyRing:
    """Return the ring that `attempt` saved, or found to be as it should; raise TooManyAttempts."""
    outcome: KeyRing | Retry = Retry.TOO_LATE
    for _ in range(ATTEMPTS):
        outcome = attempt()
        if isinstance(outcome, KeyRing):
            return outcome
    raise TooManyAttempts(
        f"the key ring could not be saved in {ATTEMPTS} attempts, the last time because {outcome}: try again"
    )


def is_timely(clock: Clock, decided_at: datetime) -> bool:
    """Whether a decision may still be saved: saved late, it would change the past.

    Making keys, waiting for a lock or being stopped takes time. A clock that was set back since proves nothing.
    """
    return abs(clock() - decided_at) <= DECISION_LIFETIME
