"""Limits on log-ins, client secrets, refresh tokens and registrations: which attempts have to wait.

How long is decided in `limits`, counting is the work of `store`. The right password is accepted on a known device
whatever others try; the right client secret or refresh token is always accepted.

A device that sends its cookie has a count of its own. A device known only by its address shares its count with its
neighbours. They must not learn from a response whether the account is used there: failures of such a device count for
the account as well, and while the account has to wait, its password is verified and a wrong one gets the response
that it would get from any other address.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from issuer.digests import named
from issuer.oauth import InvalidClient, LoginFailed, TooManyAttempts, UnknownToken
from issuer.throttling.allowances import Allowances
from issuer.throttling.limits import (
    ADDRESS,
    DEVICE,
    DEVICE_MEMORY,
    LOG_IN,
    MAIL,
    PUSH,
    REGISTRATION,
    RESET,
    SECRET,
    Bucket,
    Count,
    account_bucket,
    address_buckets,
    bucket,
    devices_of,
    subnet,
)
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore

SEEN_INTERVAL = timedelta(days=1)
"""How often the last use of a known device is stored."""
NEW_DEVICE_MEMORY = timedelta(days=7)
"""How long a device is known that has not sent its new cookie yet."""


@dataclass(frozen=True)
class _Device:
    """The digests by which a device may be known for one account."""

    account: str
    cookie: bytes | None
    """Of the cookie in the request."""
    new_cookie: bytes | None
    """Of the cookie that the response sets."""
    subnet: bytes
    """Of the address."""

    @classmethod
    def of(cls, account: str, origin: Origin) -> Self:
        cookie = named("cookie", account, origin.device) if origin.device else None
        new_cookie = named("cookie", account, origin.given_device) if origin.given_device else None
        return cls(account, cookie, new_cookie, named("subnet", account, subnet(origin.address)))

    @property
    def owner(self) -> bytes:
        """The digest by which the devices of the account are found."""
        return devices_of(self.account)

    @property
    def digests(self) -> list[bytes]:
        """Return the digests of the request, without that of the new cookie."""
        return [self.cookie, self.subnet] if self.cookie else [self.subnet]

    def to_remember(self, known: Mapping[bytes, datetime], now: datetime) -> Mapping[bytes, datetime]:
        """Return the digests to store, each with when it counts as seen.

        A new cookie that is never sent back is soon forgotten: programs that keep no cookies get one each time.
        """
        # Also one seen long after `now`, by a clock that was wrong.
        seen = {
            digest: now
            for digest in self.digests
            if digest not in known or abs(now - known[digest]) > SEEN_INTERVAL
        }
        return {**seen, self.new_cookie: now - DEVICE_MEMORY + NEW_DEVICE_MEMORY} if self.new_cookie else seen


@dataclass(frozen=True)
class _Attempt:
    """A log-in before it is tried: where its failure counts, and whether it may succeed."""

    device: _Device
    known: Mapping[bytes, datetime]
    """The digests by which the device is known, each with when it was last seen."""
    own: Bucket | None
    """The count of the device alone, if it is known."""
    counted: Mapping[Bucket, Count | None]
    """Where a failure counts, each with the count so far."""
    account_wait: timedelta
    """How long unknown devices have to wait; until then their attempts fail."""
    may_succeed: bool


@dataclass(frozen=True)
class _Reservation:
    """The failures that were counted before an attempt, each with the count before."""

    counts: Mapping[Bucket, Count]
    free: Collection[Bucket]
    """Those that cause no wait yet: others may be counted at the same time."""


def _ignore() -> None:
    """Do nothing."""


class Guard:
    """Admits attempts and counts failures; the counts are in the database, shared by all workers and nodes.

    An `account` is the name under which all spellings of a username are counted: `accounts.user.account_name`.
    """

    def __init__(self, store: ThrottleStore) -> None:
        self._store = store
        self._log_ins = Allowances(LOG_IN)
        self._pushes = Allowances(PUSH)

    def check(self, account: str, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts for a log-in that would be refused with any password; count nothing."""
        attempt = self._assess(account, origin, now)
        if wait := self._log_ins.wait(attempt.device.subnet, now):
            raise TooManyAttempts(wait)

    @contextmanager
    def log_in(
        self, account: str, origin: Origin, now: datetime, on_new_device: Callable[[], None] = _ignore
    ) -> Iterator[bool]:
        """Admit one attempt; raise TooManyAttempts, alike for accounts that exist and that do not.

        The value of the block says whether the attempt may succeed. If not, the caller verifies the password all the
        same, and raises LoginFailed.

            assess   -> TooManyAttempts   the device or its address has to wait
            reserve  -> TooManyAttempts   another attempt was counted at the same time
            attempt  -> LoginFailed       count the rest of the failure; TooManyAttempts if the account has to wait
                     -> another error     release what was reserved
                     -> success           release, reset the count of the device, remember the device

        `on_new_device` is called after a success on a device that was not known.
        """
        attempt = self._assess(account, origin, now)
        if wait := self._log_ins.take(attempt.device.subnet, now):
            raise TooManyAttempts(wait)
        reserved = self._reserve(attempt.counted, now)
        try:
            yield attempt.may_succeed
        except LoginFailed:
            self._store.fail([each for each in attempt.counted if each not in reserved.counts], now)
            if attempt.account_wait:
                raise TooManyAttempts(attempt.account_wait) from None
            raise
        except Exception:
            self._store.release(reserved.counts, now, reserved.free)
            raise
        self._store.release(reserved.counts, now, reserved.free)
        if attempt.own:  # the owner of the account mistypes passwords, too
            self._store.reset(attempt.own)
        if devices := attempt.device.to_remember(attempt.known, now):
            self._store.remember(devices, attempt.device.owner, [attempt.device.subnet])
        if not attempt.known:
            on_new_device()

    @contextmanager
    def limit_credentials(self, origin: Origin, now: datetime) -> Iterator[None]:
        """Count wrong client secrets and unknown refresh tokens by address; raise TooManyAttempts when too many."""
        try:
            yield
        except (InvalidClient, UnknownToken):
            self._count(address_buckets(SECRET, "secret", origin.address), now)
            raise

    def register(self, origin: Origin, now: datetime) -> None:
        """Count a registration before it is done; raise TooManyAttempts."""
        self._count(address_buckets(REGISTRATION, "registration", origin.address), now)

    def request_reset(self, origin: Origin, now: datetime) -> None:
        """Count a request for a new password; raise TooManyAttempts."""
        self._count(address_buckets(RESET, "reset", origin.address), now)

    def request_mail(self, kind: str, user_id: str, address: str, now: datetime) -> None:
        """Count a mail of a kind before it is queued, for its account and for its address; raise TooManyAttempts.

        Of each kind apart: what anybody may cause must not keep users from what they ask for.
        """
        self._count([bucket(MAIL, kind, user_id), bucket(MAIL, kind, address.lower())], now)

    def push(self, origin: Origin, now: datetime) -> None:
        """Count a pushed request of a client that proves nothing; raise TooManyAttempts when there are too many."""
        if wait := self._pushes.take(named("push", subnet(origin.address)), now):
            raise TooManyAttempts(wait)

    def remember_device(self, account: str, origin: Origin, now: datetime) -> None:
        """Remember the device on which an account was registered."""
        device = _Device.of(account, origin)
        self._store.remember(device.to_remember({}, now), device.owner, [device.subnet])

    def _assess(self, account: str, origin: Origin, now: datetime) -> _Attempt:
        """Return where the failure of an attempt counts; raise TooManyAttempts if the device or address must wait."""
        device = _Device.of(account, origin)
        known = self._store.known(device.digests, now)
        if device.cookie is not None and device.cookie in known:
            own = Bucket(device.cookie, DEVICE)
            counts = self._counts([own], now)
            _require_no_wait(counts, now)
            return _Attempt(device, known, own, counts, timedelta(0), may_succeed=True)
        of_account = account_bucket(device.account)
        of_subnet = Bucket(device.subnet, DEVICE) if device.subnet in known else None
        addresses = address_buckets(ADDRESS, "address", origin.address)
        counts = self._counts([of_account, *([of_subnet] if of_subnet else []), *addresses], now)
        _require_no_wait({each: counts[each] for each in addresses}, now)
        waits = {each: wait for each in counts if (wait := _wait(each, counts[each], now))}
        counted = {each: count for each, count in counts.items() if each not in waits}
        may_succeed = of_account in counted or of_subnet in counted
        account_wait = waits.get(of_account, timedelta(0))
        return _Attempt(device, known, of_subnet, counted, account_wait, may_succeed=may_succeed)

    def _counts(self, buckets: Sequence[Bucket], now: datetime) -> dict[Bucket, Count | None]:
        """Return the count of each bucket, none later than `now`: a clock that was ahead must not prolong the wait.

        The corrected counts are stored, so that the wait ends when the response said.
        """
        counts = self._store.counts(buckets)
        ahead = [each for each, count in counts.items() if count.is_ahead(each.limit, now)]
        if ahead:
            self._store.set_back(ahead, now)
        return {each: counts[each].at(now) if each in counts else None for each in buckets}

    def _count(self, buckets: Sequence[Bucket], now: datetime) -> None:
        counts = self._counts(buckets, now)
        _require_no_wait(counts, now)
        reserved = self._reserve(counts, now)
        self._store.fail([each for each in buckets if each not in reserved.counts], now)

    def _reserve(self, counts: Mapping[Bucket, Count | None], now: datetime) -> _Reservation:
        """Count the failure of an attempt before it is made, so that many at once gain nothing.

        The first half of the free failures is counted afterwards: right passwords then write nothing. Beyond the free
        ones there is one attempt at a time.
        """
        reserved, free = dict[Bucket, Count](), set[Bucket]()
        for each, count in counts.items():
            if count is None:
                continue
            failures = count.remembered(each.limit, now)
            if each.limit.wait(failures + 1):
                reserved[each] = count
            elif failures >= each.limit.free // 2:
                reserved[each] = count
                free.add(each)
        if reserved and not self._store.reserve(reserved, now, free):
            raise TooManyAttempts(timedelta(seconds=1))
        return _Reservation(reserved, free)


def _wait(each: Bucket, count: Count | None, now: datetime) -> timedelta:
    return count.wait(each.limit, now) if count else timedelta(0)


def _require_no_wait(counts: Mapping[Bucket, Count | None], now: datetime) -> None:
    wait = max((_wait(each, count, now) for each, count in counts.items()), default=timedelta(0))
    if wait > timedelta(0):
        raise TooManyAttempts(wait)
