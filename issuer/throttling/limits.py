"""Limits on guessing: how long to wait after how many failures, and which failures are counted together.

Counts are stored by `store`; which requests are limited is decided in `guard`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from issuer.addresses import parse_address
from issuer.digests import named

IPV6_SUBNET = 64
"""Bits of an IPv6 subnet: one host can use all addresses in it."""
IPV6_NETWORK = 48
"""Bits of the largest IPv6 network that one customer gets (RFC 6177); hosting providers assign it freely."""
NETWORK_SUBNETS = 4
"""An IPv6 network has the free failures of so many subnets: several customers may share it."""


@dataclass(frozen=True)
class Limit:
    """After `free` failures each further one doubles the wait, from `first` to `longest`."""

    free: int
    first: timedelta
    longest: timedelta
    memory: timedelta
    """How long failures count after the wait is over."""

    @property
    def forgotten_after(self) -> timedelta:
        """How long failures count after the latest one."""
        return self.longest + self.memory

    @property
    def of_network(self) -> Self:
        """The limit for all subnets of an IPv6 network together."""
        return replace(self, free=NETWORK_SUBNETS * self.free)

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
"""Random secrets cannot be guessed, and a whole application may use one address."""
REGISTRATION = Limit(free=30, first=_SECOND, longest=15 * _MINUTE, memory=_HOUR)
RESET = Limit(free=20, first=_SECOND, longest=15 * _MINUTE, memory=_HOUR)
"""Of requests for a new password from one address: known and unknown accounts are counted alike."""
MAIL = Limit(free=5, first=15 * _MINUTE, longest=4 * _HOUR, memory=_HOUR)
"""Of mails of one kind to one account: links that anyone may cause, and notices of new devices."""
MEMORY = max(limit.forgotten_after for limit in (ACCOUNT, DEVICE, ADDRESS, SECRET, REGISTRATION, RESET, MAIL))
"""How long any count matters after its latest failure."""
DEVICE_MEMORY = timedelta(days=90)
"""How long a device is known after the last log-in from it."""


@dataclass(frozen=True)
class Bucket:
    """Failures that are counted together; `id` is a digest, as users sometimes type a password as their name."""

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
        """Return how much longer to wait at `now`; never longer than the limit says, or negative.

        `since` may be after `now`: by the clock of another node, or by this one before it was set back.
        """
        whole = limit.wait(self.remembered(limit, now))
        return max(timedelta(0), min(whole, self.since + whole - now))

    def is_ahead(self, limit: Limit, now: datetime) -> bool:
        """Whether `since` is so far after `now` that the wait or the memory would be prolonged."""
        return self.since > now + _SECOND or (self.since > now and limit.wait(self.failures) > timedelta(0))

    def at(self, now: datetime) -> Self:
        """Return the count with its latest failure no later than `now`."""
        return replace(self, since=min(self.since, now))


@dataclass(frozen=True)
class Rate:
    """How many attempts are allowed: `burst` at once, and `per_second` in the long run."""

    burst: int
    per_second: float


PUSH = Rate(burst=200, per_second=1)
"""Of pushed authorization requests of public clients from one subnet: each is stored for an hour, 16 KiB at most."""
LOG_IN = Rate(burst=500, per_second=5)
"""Of one account from one subnet, whether they succeed or fail; each costs some 30 ms of a core."""


@dataclass(frozen=True)
class Allowance:
    """What is left of a rate at an instant."""

    left: float
    at: datetime

    def refilled(self, rate: Rate, now: datetime) -> Self:
        """Return what is left at `now`; a clock that was set back removes nothing."""
        passed = max(0.0, (now - self.at).total_seconds())
        return replace(self, left=min(float(rate.burst), self.left + passed * rate.per_second), at=now)

    def wait(self, rate: Rate) -> timedelta:
        """Return how long it takes until one more attempt is allowed; zero: it is."""
        return timedelta(seconds=max(0.0, 1 - self.left) / rate.per_second)


def bucket(limit: Limit, *names: str) -> Bucket:
    """Return the bucket of that name, which does not reveal the name."""
    return Bucket(named(*names), limit)


def account_bucket(account: str) -> Bucket:
    """Return the bucket of the failures of an account, on all devices that are not known."""
    return bucket(ACCOUNT, "account", account)


def devices_of(account: str) -> bytes:
    """Return the digest by which the known devices of an account are found."""
    return named("devices", account)


def address_buckets(limit: Limit, kind: str, address: str) -> list[Bucket]:
    """Return the buckets of an address: its subnet's, and for IPv6 its network's."""
    *networks, own = networks_of(address)
    return [
        *(bucket(limit.of_network, kind, network) for network in networks),
        bucket(limit, kind, own),
    ]


def subnet(address: str) -> str:
    """Return what is counted as one address: an IPv4 address, or an IPv6 network of 64 bits."""
    return networks_of(address)[-1]


def networks_of(address: str) -> tuple[str, ...]:
    """Return what an address is counted by, the largest first: an IPv6 network of 48 bits, and the subnet."""
    try:
        parsed = parse_address(address)
    except ValueError:  # a socket file has none
        return (address,)
    if isinstance(parsed, IPv4Address):
        return (str(parsed),)
    network, own = (
        IPv6Address(int(parsed) >> bits << bits) for bits in (128 - IPV6_NETWORK, 128 - IPV6_SUBNET)
    )
    return (f"{network}/{IPV6_NETWORK}", str(own))
