"""Events of sessions for operators, summed by user; `event_store` stores them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SessionEvent(StrEnum):
    """Events of a session for operators; summed by user, and not in the audit chain.

    Any user can cause any number of them: in the chain they would hide the events of keys.
    """

    REUSED = "refresh token reused"
    """A used token was presented after its grace period, and ended its session."""
    REUSED_FROM_OTHER_ADDRESS = "refresh token reused from another address"
    """A used token was presented within its grace period from another address, and ended its session."""
    REPEATED = "refresh token repeated"
    """A used token was presented within its grace period, and answered with its successor once more."""
    REPEAT_REFUSED = "refresh token repeat refused"
    """A used token was presented within its grace period for the third time or more."""


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
