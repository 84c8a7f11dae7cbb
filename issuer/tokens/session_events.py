"""Events of sessions that an operator should know, summed by user; storing them is the work of `event_store`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SessionEvent(StrEnum):
    """What may happen to a session that an operator should know; summed by user, and not in the chain.

    Whoever has an account can cause any number of them: in the chain they would bury the events of keys.
    """

    REPLAYED = "refresh token replayed"
    """A used token came after its grace, and ended its session."""
    ELSEWHERE = "refresh token repeated from another address"
    """A used token came within its grace from another address, and ended its session."""
    REPEATED = "refresh token repeated"
    """A used token came within its grace, and was given its successor again."""
    REPEAT_REFUSED = "refresh token repeat refused"
    """A used token came within its grace for the third time or more."""


@dataclass(frozen=True)
class SessionEvents:
    """How often one event happened to the sessions of one user since `first_at`, and the latest of them."""

    user_id: str
    event: str
    count: int
    first_at: datetime
    last_at: datetime
    session: str
    client_id: str
