"""The two exceptions of a verification, and the reasons for a refusal.

    Exception
    ├── InvalidToken        answer 401
    └── KeysUnavailable     answer 503

Responses over HTTP are left to `fastapi`.
"""

from dataclasses import dataclass
from enum import StrEnum

# For the service alone: callers learn of EXPIRED only, as more would help forgers.
Reason = StrEnum(
    "Reason",
    "MALFORMED HEADER UNKNOWN_KEY SIGNATURE CLAIMS ISSUER AUDIENCE NOT_YET_VALID EXPIRED UNEXPECTED",
)


@dataclass(eq=False)
class InvalidToken(Exception):
    """The token is not a valid token of this issuer for this service."""

    reason: Reason


@dataclass(eq=False)
class KeysUnavailable(Exception):
    """There are no usable keys; `retry_after` is in whole seconds."""

    retry_after: int
