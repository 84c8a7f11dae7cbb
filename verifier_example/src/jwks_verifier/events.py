"""The state of the keys by their age, and the events that a cache reports.

What causes them is left to `cache`, `fetching`, `jwk` and `verifier`.
"""

from collections.abc import Callable
from enum import StrEnum

State = StrEnum("State", "EMPTY FRESH STALE EXPIRED")
Event = StrEnum(
    "Event",
    "FETCHED NOT_MODIFIED FETCH_FAILED REFETCH_SUPPRESSED LISTEN_FAILED KEY_ADDED KEY_REMOVED KEY_SKIPPED "
    "ACCEPTED REJECTED UNAVAILABLE SERVED_STALE",
)
Report = Callable[[Event, str], None]
"""Takes an event and one line of detail, which never contains a token."""
