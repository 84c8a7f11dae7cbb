"""Limits on guessing: how long to wait after how many failures, and whose failures are counted together.

Counting is `store.throttle`'s work; which requests are limited is decided in `grants.guard`.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

IPV6_SITE = 64
"""Whoever has one IPv6 address has all with the same first 64 bits."""


@dataclass(frozen=True)
class Limit:
    """After `free` failures each further one doubles the wait, from `first` to `longest`."""

    free: int
    first: timedelta
    longest: timedelta
    memory: timedelta
    """So long after the wait is over, failures are forgotten."""

    @property
    def forgotten_after(self) -> timedelta:
        """How long after the latest failure all are forgotten."""
        return self.longest + self.memory

    def wait(self, failures: int) -> timedelta:
        """Return how long to wait after the latest of so many failures."""
        beyond = failures - self.free
        if beyond <= 0:
            return timedelta(0)
        doubled: int = 2 ** min(beyond - 1, 32)
        return min(self.longest, self.first * doubled)


_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ACCOUNT = Limit(free=10, first=_SECOND, longest=15 * _MINUTE, memory=24 * _HOUR)
DEVICE = ACCOUNT
ADDRESS = Limit(free=30, first=_SECOND, longest=15 * _MINUTE, memory=_HOUR)
SECRET = Limit(free=100, first=_SECOND, longest=_MINUTE, memory=_HOUR / 6)
"""There is nothing to guess about random secrets, and a whole application may come from one address."""
REGISTRATION = Limit(free=30, first=_SECOND, longest=15 * _MINUTE, memory=_HOUR)
MEMORY = max(limit.forgotten_after for limit in (ACCOUNT, DEVICE, ADDRESS, SECRET, REGISTRATION))
"""A count that was not touched for so long means nothing any more."""
DEVICE_MEMORY = timedelta(days=90)
"""For how long a device is known after the last log-in from it."""


@dataclass(frozen=True)
class Bucket:
    """Failures that are counted together; `id` is a digest, as people type passwords where names belong."""

    id: bytes
    limit: Limit


@dataclass(frozen=True)
class Count:
    """How many failures a bucket has, and when the latest was."""

    failures: int
    since: datetime

    def remembered(self, limit: Limit, now: datetime) -> int:
        """Return how many failures still count at `now`."""
        return 0 if now - self.since > limit.forgotten_after else self.failures

    def wait(self, limit: Limit, now: datetime) -> timedelta:
        """Return how much longer to wait at `now`; zero or less: no longer."""
        return self.since + limit.wait(self.remembered(limit, now)) - now


def bucket(limit: Limit, *names: str) -> Bucket:
    """Return the bucket of that name, which tells nothing of it."""
    return Bucket(named(*names), limit)


def named(*names: str) -> bytes:
    """Return a digest that stands for `names` without telling them to who reads the database."""
    parts = [name.encode("utf-8", "surrogatepass") for name in names]
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


def site(address: str) -> str:
    """Return what is counted as one address: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a socket file has none
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> IPV6_SITE << IPV6_SITE))
