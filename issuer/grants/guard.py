"""Limits on guessing passwords, secrets and tokens, and on making accounts: who must wait before trying again.

How long is decided in `throttle`. Whoever has the right password on a device that logged in before is not held up
by what strangers try; whoever has the right client secret or refresh token is never held up.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from issuer.accounts import canonical_username, hashable
from issuer.grants.means import Origin, UnknownToken
from issuer.oauth import InvalidClient, LoginFailed, TooManyAttempts
from issuer.store.throttle import ThrottleStore
from issuer.throttle import (
    ACCOUNT,
    ADDRESS,
    DEVICE,
    DEVICE_MEMORY,
    REGISTRATION,
    SECRET,
    Bucket,
    Count,
    bucket,
    named,
    site,
)

SEEN_EVERY = timedelta(days=1)
"""How often it is written down that a known device was seen."""
UNPROVEN = timedelta(days=7)
"""How long the name of a device is known that did not bring it back yet."""


@dataclass(frozen=True)
class _Device:
    """What a request says of the device it comes from, by which the device is known for one account."""

    brought: bytes | None
    given: bytes | None
    site: bytes

    @classmethod
    def of(cls, username: str, origin: Origin) -> Self:
        name = canonical_username(username) if hashable(username) else username
        brought = named("cookie", name, origin.device) if origin.device else None
        given = named("cookie", name, origin.given_device) if origin.given_device else None
        return cls(brought, given, named("site", name, site(origin.address)))

    @property
    def names(self) -> list[bytes]:
        return [self.brought, self.site] if self.brought else [self.site]

    def worth_remembering(self, known: Mapping[bytes, datetime], now: datetime) -> Mapping[bytes, datetime]:
        """Return the names to write down, each with when it counts as seen.

        A new one that is never brought back is soon forgotten: programs that keep no cookies get one each time.
        """
        seen = {name: now for name in self.names if name not in known or now - known[name] > SEEN_EVERY}
        return {**seen, self.given: now - DEVICE_MEMORY + UNPROVEN} if self.given else seen

    def buckets(self, username: str, origin: Origin, known: Mapping[bytes, datetime]) -> Sequence[Bucket]:
        """Return where a failure is counted.

        Neighbours share a known site: unless they also share a limit, they could tell who logs in from there.
        """
        if self.brought is not None and self.brought in known:
            return [Bucket(self.brought, DEVICE)]
        name = canonical_username(username) if hashable(username) else username
        account = Bucket(self.site, DEVICE) if self.site in known else bucket(ACCOUNT, "account", name)
        return [account, bucket(ADDRESS, "address", site(origin.address))]


class Guard:
    """Admits attempts, and counts those that fail; the counts are the database's, for all workers and nodes."""

    def __init__(self, store: ThrottleStore) -> None:
        self._store = store

    @contextmanager
    def log_in(self, username: str, origin: Origin, now: datetime) -> Iterator[None]:
        """Let a password be tried; raise TooManyAttempts alike for accounts that exist and that do not."""
        device = _Device.of(username, origin)
        known = self._store.known(device.names, now)
        buckets = device.buckets(username, origin, known)
        claimed = self._admit(buckets, now)
        try:
            yield
        except LoginFailed:
            self._store.fail([each for each in buckets if each not in claimed], now)
            raise
        except Exception:
            self._store.forgive(claimed, now)
            raise
        self._store.forgive(claimed, now)
        for each in buckets:
            if each.id in known:  # whoever logs in from there may forget a word now and then
                self._store.forget(each)
        if fresh := device.worth_remembering(known, now):
            self._store.remember(fresh)

    @contextmanager
    def prove(self, origin: Origin, now: datetime) -> Iterator[None]:
        """Count wrong client secrets and unknown refresh tokens by address; raise TooManyAttempts beyond."""
        try:
            yield
        except (InvalidClient, UnknownToken):
            self._count(bucket(SECRET, "secret", site(origin.address)), now)
            raise

    def register(self, origin: Origin, now: datetime) -> None:
        """Count an account that is about to be made; raise TooManyAttempts."""
        self._count(bucket(REGISTRATION, "registration", site(origin.address)), now)

    def know(self, username: str, origin: Origin, now: datetime) -> None:
        """Know the device on which an account was made."""
        self._store.remember(_Device.of(username, origin).worth_remembering({}, now))

    def _count(self, each: Bucket, now: datetime) -> None:
        if not self._admit([each], now):
            self._store.fail([each], now)

    def _admit(self, buckets: Sequence[Bucket], now: datetime) -> Mapping[Bucket, Count]:
        """Return the counts by which the one attempt at a time was claimed; or raise TooManyAttempts.

        The free attempts are counted when they fail, those beyond before they are made: many at once gain nothing.
        """
        counts = self._store.counts(buckets)
        waits = [count.wait(each.limit, now) for each, count in counts.items()]
        if waits and max(waits) > timedelta(0):
            raise TooManyAttempts(max(waits))
        slow = {
            each: count
            for each, count in counts.items()
            if each.limit.wait(count.remembered(each.limit, now) + 1)
        }
        if slow and not self._store.claim(slow, now):
            raise TooManyAttempts(timedelta(seconds=1))
        return slow
