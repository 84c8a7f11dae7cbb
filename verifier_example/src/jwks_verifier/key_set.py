"""A snapshot of the published keys, and instants on both clocks.

Fetching it is left to `fetching`, its use by age to `cache`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jwt import PyJWK


class Instant(NamedTuple):
    """An instant on both clocks: the monotonic clock stops during a suspend, the wall clock can be set."""

    monotonic: float
    wall: float

    def later(self, seconds: float) -> "Instant":
        """Return the instant that many seconds later."""
        return Instant(self.monotonic + seconds, self.wall + seconds)


class Clocks:
    """Reads instants from two clocks."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]

    def now(self) -> Instant:
        """Read both."""
        return Instant(self.monotonic(), self.wall())

    def since(self, then: Instant) -> float:
        """Seconds since `then`, the greater of both clocks.

        The monotonic clock stops while the machine is suspended. The wall clock can be set: set back, it extends
        nothing; set forward, it makes the keys stale too early, until the next fetch.
        """
        return max(self.monotonic() - then.monotonic, self.wall() - then.wall)


@dataclass(frozen=True, slots=True)
class KeySet:
    """A snapshot of the published keys, only ever replaced as a whole."""

    by_kid: Mapping[str, PyJWK]  # each bound to the one algorithm it verifies
    source: str
    fetched_at: Instant  # when it was asked for
    ttl: float
    etag: str | None
    by_header: dict[str, PyJWK] = field(default_factory=dict, repr=False)  # header segment -> key
    expires_at: Instant = field(init=False)  # computed once: every request compares with it

    def __post_init__(self) -> None:
        object.__setattr__(self, "expires_at", self.fetched_at.later(self.ttl))
