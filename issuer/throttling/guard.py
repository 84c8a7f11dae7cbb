"""Limits on guessing passwords, secrets and tokens, and on making accounts: who must wait before trying again.

How long is decided in `limits`. Whoever has the right password on a device that logged in before is not held up
by what strangers try; whoever has the right client secret or refresh token is never held up.

A device that brings its cookie back has a count of its own. One that is known by its address alone shares it with
its neighbours, who must not learn from any answer whether the account is used there: its failures count for the
account as well, and while the account has to wait, a password is verified and a wrong one gets the answer that it
would get anywhere else.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from issuer.digests import named
from issuer.oauth import InvalidClient, LoginFailed, TooManyAttempts, UnknownToken
from issuer.throttling.allowances import Allowances
from issuer.throttling.limits import (
    ACCOUNT,
    ADDRESS,
    DEVICE,
    DEVICE_MEMORY,
    LOG_IN,
    REGISTRATION,
    SECRET,
    Bucket,
    Count,
    address_buckets,
    bucket,
    site,
)
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore

SEEN_EVERY = timedelta(days=1)
"""How often it is written down that a known device was seen."""
UNPROVEN = timedelta(days=7)
"""How long the name of a device is known that did not bring it back yet."""


@dataclass(frozen=True)
class _Device:
    """What a request says of the device it comes from, by which the device is known for one account."""

    account: str
    brought: bytes | None
    given: bytes | None
    site: bytes

    @classmethod
    def of(cls, account: str, origin: Origin) -> Self:
        brought = named("cookie", account, origin.device) if origin.device else None
        given = named("cookie", account, origin.given_device) if origin.given_device else None
        return cls(account, brought, given, named("site", account, site(origin.address)))

    @property
    def names(self) -> list[bytes]:
        return [self.brought, self.site] if self.brought else [self.site]

    def worth_remembering(self, known: Mapping[bytes, datetime], now: datetime) -> Mapping[bytes, datetime]:
        """Return the names to write down, each with when it counts as seen.

        A new one that is never brought back is soon forgotten: programs that keep no cookies get one each time.
        """
        # Also when it was seen long after `now`: by a clock that was wrong.
        seen = {name: now for name in self.names if name not in known or abs(now - known[name]) > SEEN_EVERY}
        return {**seen, self.given: now - DEVICE_MEMORY + UNPROVEN} if self.given else seen


@dataclass(frozen=True)
class _Attempt:
    """A log-in that is about to be tried: what is counted if it fails, and whether it may succeed."""

    device: _Device
    known: Mapping[bytes, datetime]
    own: Bucket | None
    """What is counted for the device alone, if it is known."""
    counted: Mapping[Bucket, Count | None]
    """Where a failure counts, each with the count so far."""
    wait: timedelta
    """How long unknown devices have to wait; their attempts fail until then."""
    may_succeed: bool


class Guard:
    """Admits attempts, and counts those that fail; the counts are the database's, for all workers and nodes.

    An `account` is the name under which all spellings of a username are counted: `accounts.user.account_name`.
    """

    def __init__(self, store: ThrottleStore) -> None:
        self._store = store
        self._log_ins = Allowances(LOG_IN)

    def check(self, account: str, origin: Origin, now: datetime) -> None:
        """Raise TooManyAttempts for a log-in that would be refused whatever its password is; count nothing."""
        attempt = self._look(account, origin, now)
        if wait := self._log_ins.wait(attempt.device.site, now):
            raise TooManyAttempts(wait)

    @contextmanager
    def log_in(self, account: str, origin: Origin, now: datetime) -> Iterator[bool]:
        """Let a password be tried; raise TooManyAttempts alike for accounts that exist and that do not.

        Yields whether it may succeed. If not it must be verified all the same, and LoginFailed be raised.
        """
        attempt = self._look(account, origin, now)
        if wait := self._log_ins.take(attempt.device.site, now):
            raise TooManyAttempts(wait)
        claimed, free = self._claim(attempt.counted, now)
        try:
            yield attempt.may_succeed
        except LoginFailed:
            self._store.fail([each for each in attempt.counted if each not in claimed], now)
            if attempt.wait:
                raise TooManyAttempts(attempt.wait) from None
            raise
        except Exception:
            self._store.forgive(claimed, now, free)
            raise
        self._store.forgive(claimed, now, free)
        if attempt.own:  # people mistype their passwords on devices of their own, too
            self._store.forget(attempt.own)
        if fresh := attempt.device.worth_remembering(attempt.known, now):
            self._store.remember(fresh)

    @contextmanager
    def limit_credentials(self, origin: Origin, now: datetime) -> Iterator[None]:
        """Count wrong client secrets and unknown refresh tokens by address; raise TooManyAttempts beyond."""
        try:
            yield
        except (InvalidClient, UnknownToken):
            self._count(address_buckets(SECRET, "secret", origin.address), now)
            raise

    def register(self, origin: Origin, now: datetime) -> None:
        """Count an account that is about to be made; raise TooManyAttempts."""
        self._count(address_buckets(REGISTRATION, "registration", origin.address), now)

    def remember_device(self, account: str, origin: Origin, now: datetime) -> None:
        """Know the device on which an account was made."""
        self._store.remember(_Device.of(account, origin).worth_remembering({}, now))

    def _look(self, account: str, origin: Origin, now: datetime) -> _Attempt:
        """Return what an attempt counts for; raise TooManyAttempts where its device or address has to wait."""
        device = _Device.of(account, origin)
        known = self._store.known(device.names, now)
        if device.brought is not None and device.brought in known:
            own = Bucket(device.brought, DEVICE)
            counts = self._counts([own], now)
            _require_no_wait(counts, now)
            return _Attempt(device, known, own, counts, timedelta(0), may_succeed=True)
        everywhere = bucket(ACCOUNT, "account", device.account)
        own_site = Bucket(device.site, DEVICE) if device.site in known else None
        addresses = address_buckets(ADDRESS, "address", origin.address)
        counts = self._counts([everywhere, *([own_site] if own_site else []), *addresses], now)
        _require_no_wait({each: counts[each] for each in addresses}, now)
        waits = {each: wait for each in counts if (wait := _wait(each, counts[each], now))}
        counted = {each: count for each, count in counts.items() if each not in waits}
        may_succeed = everywhere in counted or own_site in counted
        return _Attempt(
            device, known, own_site, counted, waits.get(everywhere, timedelta(0)), may_succeed=may_succeed
        )

    def _counts(self, buckets: Sequence[Bucket], now: datetime) -> dict[Bucket, Count | None]:
        """Return the count of each bucket, none later than `now`: a clock that was ahead makes nobody wait longer.

        The corrected counts are saved, so that nobody waits longer than the answer said.
        """
        counts = self._store.counts(buckets)
        ahead = [each for each, count in counts.items() if count.is_ahead(each.limit, now)]
        if ahead:
            self._store.set_back(ahead, now)
        return {each: counts[each].at(now) if each in counts else None for each in buckets}

    def _count(self, buckets: Sequence[Bucket], now: datetime) -> None:
        counts = self._counts(buckets, now)
        _require_no_wait(counts, now)
        claimed, _ = self._claim(counts, now)
        self._store.fail([each for each in buckets if each not in claimed], now)

    def _claim(
        self, counts: Mapping[Bucket, Count | None], now: datetime
    ) -> tuple[Mapping[Bucket, Count], Collection[Bucket]]:
        """Return the counts that the attempt was counted for before it is made, and which of them are free.

        The first half of the free attempts is counted when they fail, so that right passwords write nothing down;
        all others before they are made: many at once gain nothing. Beyond the free ones there is one at a time.
        """
        claimed, free = dict[Bucket, Count](), set[Bucket]()
        for each, count in counts.items():
            if count is None:
                continue
            failures = count.remembered(each.limit, now)
            if each.limit.wait(failures + 1):
                claimed[each] = count
            elif failures >= each.limit.free // 2:
                claimed[each] = count
                free.add(each)
        if claimed and not self._store.claim(claimed, now, free):
            raise TooManyAttempts(timedelta(seconds=1))
        return claimed, free


def _wait(each: Bucket, count: Count | None, now: datetime) -> timedelta:
    return count.wait(each.limit, now) if count else timedelta(0)


def _require_no_wait(counts: Mapping[Bucket, Count | None], now: datetime) -> None:
    wait = max((_wait(each, count, now) for each, count in counts.items()), default=timedelta(0))
    if wait > timedelta(0):
        raise TooManyAttempts(wait)
