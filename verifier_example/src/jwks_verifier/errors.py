"""The two exceptions of a verification, the reasons for a refusal, and shortages, which are no refusal.

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
    detail: str = ""  # for the log alone: what was expected and, if the signature was right, what was seen

    def __str__(self) -> str:
        return self.reason  # services may send the text of an exception to the caller


@dataclass(eq=False)
class KeysUnavailable(Exception):
    """There are no usable keys; `retry_after` is in whole seconds."""

    retry_after: int


def is_shortage(error: Exception) -> bool:
    """Whether the process lacks memory, file descriptors or threads, so that the error says nothing of a token."""
    no_thread = type(error) is RuntimeError and str(error) == "can't start new thread"
    return no_thread or isinstance(error, MemoryError | OSError)
