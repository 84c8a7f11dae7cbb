"""Keeps the issuer's published keys: how old they are, when they are fetched again, and which requests wait for that.

Fetching itself is left to `fetching`, the use of keys to `verifier`.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Self

import httpx2

from .errors import KeysUnavailable
from .events import Event
from .fetching import KeySetFetcher
from .http_client import HttpClient, check_url
from .jwk import KTY
from .key_set import HeldKeys, Instant, KeySet
from .listening import KeySetListener
from .logs import OutageLog, guarded
from .timings import Timings
from .user_agent import user_agent

MAX_WAITERS = 64  # requests that wait for an unknown kid: attackers can invent any number of kids
MAX_WAITERS_WITHOUT_KEYS = 4096  # the same without keys, when no request can be recognised as an attack
TICK = 5  # seconds between two looks at the clocks: the event loop's own clock stops during a suspend
SLACK = 1  # seconds by which a timer may be late before the machine counts as having been suspended
_JITTER = random.SystemRandom()


@dataclass(eq=False, repr=False)
class JwksCache(HeldKeys):
    """The issuer's published keys, refreshed in advance, one fetch at a time; use it in `async with`.

    The constructor raises ValueError for unusable URLs, algorithms and certificate files. Network errors are never
    raised: a failed fetch is reported to `on_event`, logged and retried, and the old keys stay. Verifiers on one
    event loop may share a cache; the last to end stops it.
    """

    issuer: str
    _: KW_ONLY
    jwks_url: str | None = None  # None: found by discovery
    algorithms: Sequence[str] = ("RS256",)
    listen: bool = False  # whether to keep a request open which the issuer answers when the keys change
    timings: Timings = field(default_factory=Timings)
    allow_http: bool = False
    ca_file: str | None = None  # PEM with the authorities to trust; None: SSL_CERT_FILE, or the system's
    proxy: str | None = None  # for fetches except from loopback
    trust_env: bool = False  # whether to use HTTPS_PROXY, NO_PROXY and the like instead
    headers: Mapping[str, str] = field(default_factory=dict)  # sent to the hosts of `issuer` and `jwks_url`
    name: str | None = None  # of the service, sent in User-Agent: an issuer may list who fetches its keys
    transport: httpx2.AsyncBaseTransport | None = None
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # noqa: TID251 - a default that callers and tests replace
    on_event: Callable[[Event, str], None] = lambda _event, _detail: None

    def __post_init__(self) -> None:
        for url in (self.issuer, self.jwks_url):
            if url is not None:
                check_url(url, allow_http=self.allow_http)
        if not self.algorithms or not KTY.keys() >= set(self.algorithms):
            raise ValueError(f"algorithms must be among {', '.join(KTY)}")
        self.report = guarded(self.on_event)
        self.outages = OutageLog(self.issuer)
        self._attempted_at = self._next_attempt_at = self._expected_at = Instant(-math.inf, -math.inf)
        self._failures = 0
        self.owner: object = None  # the one SyncTokenVerifier in whose thread it is refreshed
        self.forget_loop()

    def forget_loop(self) -> None:
        """Keep the keys, but no task of an event loop that ended or, after a fork, is another process's."""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late_fetch: asyncio.Task[None] | None = None  # the fetch that became due during a suspend
        self._is_closing = False
        self._users = self._waiters = 0  # blocks of `async with` that are running, and requests that wait
        self._refresh_share = _JITTER.uniform(self.timings.refresh_from, self.timings.refresh_to)
        # Created here, because that blocks for a while. A stop has nothing to close, and a start may follow.
        client = HttpClient(
            self.timings,
            ca_file=self.ca_file,
            proxy=self.proxy,
            trust_env=self.trust_env,
            headers={"user-agent": user_agent(self.name), **self.headers},
            origins=[url for url in (self.issuer, self.jwks_url) if url],
            transport=self.transport,
        )
        self._fetcher = KeySetFetcher(
            client, self.issuer, self.jwks_url, self.allow_http, self.algorithms, self.timings, self.report
        )
        self._listener = KeySetListener(
            self._fetcher, self.timings, self.now, self.report, lambda: self._snapshot, self._heard
        )

    async def __aenter__(self) -> Self:
        self._users += 1
        self._is_closing = False
        self.refresh()  # not awaited: the service starts even if the issuer is down
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users > 0:  # another verifier of this event loop needs the refreshes
            return
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = {task for task in (self._task, self._listener.task) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)

    @property
    def refresh_is_late(self) -> bool:
        """Whether a fetch is late because the machine was suspended, or such a late fetch is in progress.

        During an outage of the issuer no fetch is late: each failure sets the time of the next one.
        """
        if self._late_fetch is not None and not self._late_fetch.done():
            return True
        return self._snapshot is not None and self.since(self._expected_at) > SLACK

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1."""
        return max(1, math.ceil(max(0, -self.since(self._next_attempt_at))))

    def refresh(self) -> asyncio.Task[None]:
        """Return the task of the fetch in progress, shared by all callers, or of a new one; the task never raises."""
        if self._task is None or self._task.done():
            self._attempted_at = self.now()
            self._expected_at = self._attempted_at.later(self.timings.fetch_deadline)
            self._task = asyncio.get_running_loop().create_task(self._attempt())
            self._task.add_done_callback(self._schedule)  # first, before the callbacks of callers
        return self._task

    async def refetched(self) -> KeySet:
        """Return the keys after another fetch if the cooldown allows one; raise KeysUnavailable without keys."""
        if self._may_refetch():
            self._waiters += 1
            try:  # `wait` cancels the fetch neither at a timeout nor when this caller is cancelled
                await asyncio.wait({self.refresh()}, timeout=self.timings.wait)
            finally:
                self._waiters -= 1
        else:
            self.report(Event.REFETCH_SUPPRESSED, self.state)
        return self._required()

    def _may_refetch(self) -> bool:
        """Whether the caller may wait for a fetch: one in progress, or a new one if the cooldown has passed."""
        if self._waiters >= (MAX_WAITERS if self.usable else MAX_WAITERS_WITHOUT_KEYS):
            return False
        if self._task is not None and not self._task.done():
            return True
        # The cooldown starts at any attempt. It is shorter without usable keys, when every request needs a fetch.
        cooldown = self.timings.cooldown if self.usable else self.timings.cooldown_empty
        least = min(cooldown, self.timings.cooldown_empty)  # a wall clock that is set cannot shorten this
        rested = self.monotonic() - self._attempted_at.monotonic
        return rested >= least and self.since(self._attempted_at) >= cooldown

    async def refetched_late(self) -> KeySet:
        """Return the keys after the late fetch (see `refresh_is_late`); raise KeysUnavailable without keys."""
        rested = self.monotonic() - self._attempted_at.monotonic
        if (self._late_fetch is None or self._late_fetch.done()) and rested >= self.timings.cooldown_empty:
            self._late_fetch = self.refresh()
        if self._late_fetch is not None:
            await asyncio.wait({self._late_fetch}, timeout=self.timings.wait)
        return self._required()

    def _required(self) -> KeySet:
        keys = self.usable
        if keys is None:
            raise KeysUnavailable(self.retry_after)
        return keys

    async def _attempt(self) -> None:
        try:
            async with asyncio.timeout(self.timings.fetch_deadline):
                # After a failure the URL is discovered again: it may have changed.
                rediscover, before = self._failures > 0, self._snapshot
                fetched = await self._fetcher.fetch(self._attempted_at, before, rediscover=rediscover)
            held = self._snapshot
            heard_meanwhile = before is not None and held is not None and before.etag != held.etag
            if held is not None and (heard_meanwhile or self._listener.is_outdated(fetched)):
                fetched = held  # newer than an answer of a process that lags behind
            self._take(fetched)
            if self.listen and not self._is_closing:
                self._listener.fetched(fetched)
        except Exception as error:  # noqa: BLE001 - the old keys stay, whatever the network or a library raises
            self._failures += 1
            detail = f"{type(error).__name__}: {str(error)!a:.200}"
            self.report(Event.FETCH_FAILED, detail)
            self.outages.failed(self.state, detail)

    def _take(self, fetched: KeySet) -> None:
        old = self._snapshot.by_kid if self._snapshot else {}
        self._snapshot, self._failures = fetched, 0
        self.outages.fetched()
        for kid in sorted(old.keys() ^ fetched.by_kid.keys()):
            self.report(Event.KEY_REMOVED if kid in old else Event.KEY_ADDED, kid)

    def _heard(self, answer: KeySet) -> None:
        """Use an answer to the listening request; its age counts from the request."""
        self._take(answer)
        if self._task is None or self._task.done():  # else a fetch in progress schedules the next one
            self._refresh_in(max(0.0, answer.ttl * self._refresh_share - self.age))

    def _schedule(self, attempt: asyncio.Task[None]) -> None:
        """Schedule the next attempt after this one, also if a caller cancelled it."""
        if self._is_closing:
            return
        self._failures += attempt.cancelled()
        delay = self._snapshot.ttl * self._refresh_share if self._snapshot else 0.0
        if self._failures:
            doubled = self.timings.backoff_first * 2.0 ** min(self._failures - 1, 16)
            delay = min(doubled, self.timings.backoff_last) * _JITTER.uniform(0.5, 1)
        is_late = self._snapshot is not None and not self._failures and not self.fresh
        if is_late:  # the machine was suspended during the fetch, so the keys are already stale
            delay = min(delay, self.timings.cooldown_empty)
        # After a late one the next is due now, but only once.
        self._refresh_in(delay, is_expected=not is_late or attempt is self._late_fetch)

    def _refresh_in(self, delay: float, *, is_expected: bool = True) -> None:
        self._next_attempt_at = self.now().later(delay)
        if is_expected:
            self._expected_at = self._next_attempt_at
        self._set_timer(asyncio.get_running_loop().time() + delay)

    def _set_timer(self, due: float) -> None:
        """Refresh at `due` of the event loop's clock, or soon after the machine resumes from a suspend."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        remaining = due - loop.time()
        if self.refresh_is_late:
            self._late_fetch = self.refresh()  # requests wait for it: keys may have been removed meanwhile
        elif remaining <= 0:
            self.refresh()
        else:
            self._timer = loop.call_later(min(remaining, TICK), self._set_timer, due)
