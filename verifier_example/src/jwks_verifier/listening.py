"""Listens for another key set: one request, which the issuer answers when the set changes (`Prefer: wait`, RFC 7240).

Refreshes by age, and fetches for an unknown kid, are left to `cache`; they continue where nobody may wait.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from .events import Event, Report
from .fetching import KeySetFetcher
from .key_set import Instant, KeySet
from .timings import Timings

WAIT_LEAST, WAIT_MOST = 20, 25  # seconds: some proxies close a connection that is silent for half a minute
SOON = 2  # seconds: answers that come sooner, again and again, make the pauses longer
LAG = 5  # seconds for which another process of the issuer may still serve the set before a change
_JITTER = random.SystemRandom()


@dataclass(eq=False, repr=False)
class KeySetListener:
    """Keeps at most one request open; an answer that comes too soon, or none, is followed by a longer pause."""

    fetcher: KeySetFetcher
    timings: Timings
    now: Callable[[], Instant]
    report: Report
    held: Callable[[], KeySet | None]
    """Returns the key set to listen with."""
    take: Callable[[KeySet], None]
    """Called with each answer."""

    def __post_init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self._open: KeySet | None = None  # with which a request is open
        self._misses = 0  # answers in a row that came too soon, or not at all
        self._replaced: KeySet | None = None
        self._replaced_at = float("-inf")

    def fetched(self, keys: KeySet) -> None:
        """Listen from now on with `keys`, the result of an ordinary fetch; a pause is not cut short."""
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._run(None))
        elif self._open is not None and self._open.etag != keys.etag:
            self.task.cancel()
            self.task = asyncio.get_running_loop().create_task(self._run(self.task))

    def is_outdated(self, keys: KeySet) -> bool:
        """Whether these keys were just replaced, and come from a process that has not seen the change yet."""
        is_recent = self.now().monotonic - self._replaced_at < LAG
        return is_recent and self._replaced is not None and self._replaced.etag == keys.etag

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})  # then its connection is closed
        while (keys := self.held()) is not None and (seconds := self._wait_for(keys)):
            pause = await self._listen(keys, seconds)
            await asyncio.sleep(pause)

    def _wait_for(self, keys: KeySet) -> int:
        """Return for how many seconds to listen, 0 for not at all.

        The age of an answer counts from the request, and must stay below the ttl until the next answer.
        """
        most = min(WAIT_MOST, int(keys.ttl * self.timings.refresh_from / 2))
        return _JITTER.randint(min(WAIT_LEAST, most), most) if keys.etag else 0

    async def _listen(self, keys: KeySet, seconds: int) -> float:
        """Listen once, and return the pause until the next time."""
        clock, asked_at, self._open = asyncio.get_running_loop().time, self.now(), keys
        began = clock()
        try:
            async with asyncio.timeout(seconds + self.timings.fetch_deadline):
                answer, granted = await self.fetcher.listen(asked_at, keys, seconds)
        except Exception as error:  # noqa: BLE001 - ordinary fetches continue, whatever is raised
            self._misses += 1
            self.report(Event.LISTEN_FAILED, f"{type(error).__name__}: {str(error)!a:.200}")
            return self._pause(self.timings.backoff_last)
        finally:
            self._open = None
        changed, waited = answer.etag != keys.etag, clock() - began
        has_waited = granted and waited >= (min(SOON, seconds / 2) if changed else seconds / 2)
        self._misses = 0 if has_waited else self._misses + 1
        if not self.is_outdated(answer):
            if changed:
                self._replaced, self._replaced_at = keys, self.now().monotonic
            self.take(answer)
        # Where nobody may wait, the pauses grow to that between ordinary refreshes, and this replaces them.
        return 0 if has_waited and not changed else self._pause(keys.ttl * self.timings.refresh_from)

    def _pause(self, longest: float) -> float:
        doubled = self.timings.backoff_first * 2.0 ** min(max(self._misses, 1) - 1, 16)
        return min(doubled * _JITTER.uniform(0.5, 1), longest * _JITTER.uniform(0.9, 1))
