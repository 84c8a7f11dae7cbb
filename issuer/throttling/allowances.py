"""How many log-ins each account has left at each subnet, counted in memory: this protects the cores of one process.

The rate is defined in `limits`.
"""

from collections import OrderedDict
from datetime import datetime, timedelta
from threading import Lock

from issuer.throttling.limits import Allowance, Rate

REMEMBERED_MOST = 10_000
"""Names beyond this many are forgotten, the least recently used first, and start with the full rate."""


class Allowances:
    """Counts attempts against one rate, by name; may be called from any thread."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left: OrderedDict[bytes, Allowance] = OrderedDict()
        self._lock = Lock()

    def wait(self, name: bytes, now: datetime) -> timedelta:
        """Return how long to wait before the next attempt; zero: not at all."""
        with self._lock:
            return self._at(name, now).wait(self._rate)

    def take(self, name: bytes, now: datetime) -> timedelta:
        """Count an attempt unless it has to wait, and return for how long it has to."""
        with self._lock:
            allowance = self._at(name, now)
            wait = allowance.wait(self._rate)
            left = allowance.left if wait else allowance.left - 1
            self._left[name] = Allowance(left, now)
            self._left.move_to_end(name)
            if len(self._left) > REMEMBERED_MOST:
                self._left.popitem(last=False)
            return wait

    def _at(self, name: bytes, now: datetime) -> Allowance:
        known = self._left.get(name)
        if known is None:
            return Allowance(float(self._rate.burst), now)
        allowance = known.refilled(self._rate, now)
        if known.at > now:  # the clock was set back: from now on it is refilled by the clock as it is
            self._left[name] = allowance
        return allowance
