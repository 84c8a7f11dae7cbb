"""A snapshot of the published keys, how old it is, and instants on both clocks.

Fetching it is left to `fetching`, when to fetch another to `cache`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jwt import PyJWK

from .events import State
from .timings import Timings


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


class HeldKeys(Clocks):
    """The latest snapshot, and whether its age allows to use it."""

    timings: Timings
    _snapshot: KeySet | None = None

    @property
    def age(self) -> float:
        """Seconds since the keys were requested; infinite without keys."""
        keys = self._snapshot
        return self.since(keys.fetched_at) if keys else math.inf

    @property
    def fresh(self) -> KeySet | None:
        """The snapshot while it is FRESH."""
        keys = self._snapshot
        if keys is None:
            return None
        monotonic, wall = keys.expires_at
        return keys if self.monotonic() <= monotonic and self.wall() <= wall else None

    @property
    def usable(self) -> KeySet | None:
        """The snapshot while it is FRESH or STALE."""
        keys = self._snapshot  # read once, without `age`: another thread may replace it
        return keys if keys and self.since(keys.fetched_at) <= keys.ttl + self.timings.max_stale else None

    @property
    def state(self) -> State:
        """The state of the keys now; derived from their age, never stored."""
        if self._snapshot is None:
            return State.EMPTY
        if self.fresh:
            return State.FRESH
        return State.STALE if self.usable else State.EXPIRED
