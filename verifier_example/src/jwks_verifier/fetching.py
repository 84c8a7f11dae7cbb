"""Fetches the key set of an issuer: where it is, whether it has changed, and how long it may be used.

When to fetch is left to `cache`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import httpx2

from .discovery import discover
from .encoding import KEY_SET, read_object
from .events import Event, Report
from .http_client import HttpClient
from .jwk import import_keys
from .key_set import Instant, KeySet
from .timings import Timings

_ETAG = re.compile(r'(?:W/)?"[!\x23-~]{0,256}"')
_MAX_AGE = re.compile(r'(?<![\w-])max-age="?([0-9]{1,12})\b', re.IGNORECASE)
# Not the form for single fields: no-cache="…".
_UNCACHED = re.compile(r"(?<![\w-])no-(?:cache|store)(?![\w=-])", re.IGNORECASE)
_AGE = re.compile(r"[0-9]{1,12}")
_WAITED = re.compile(r"(?:^|,)\s*wait\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False, repr=False)
class KeySetFetcher:
    """Fetches the key set of one issuer, from `jwks_url` or from where discovery finds it."""

    client: HttpClient
    issuer: str
    jwks_url: str | None
    allow_http: bool
    algorithms: Sequence[str]
    timings: Timings
    report: Report

    async def fetch(self, asked_at: Instant, old: KeySet | None, *, rediscover: bool) -> KeySet:
        """Return the key set of now; raises anything that the network, a library or a hostile issuer causes."""
        found = old.source if old and not rediscover else None
        url = self.jwks_url or found or await discover(self.client, self.issuer, allow_http=self.allow_http)
        if old is not None and old.source != url:
            old = None
        body, headers = await self.client.get(url, old.etag if old else None)
        return await self._read(body, headers, old, url, asked_at)

    async def listen(self, asked_at: Instant, old: KeySet, seconds: int) -> tuple[KeySet, bool]:
        """Return the key set when it is another than `old`, or after so many seconds.

        The second value is False if the server did not wait for that. Raises as `fetch` does.
        """
        body, headers = await self.client.get(old.source, old.etag, wait=seconds)
        granted = _WAITED.search(headers.get("preference-applied", "")) is not None
        return await self._read(body, headers, old, old.source, asked_at), granted

    async def _read(
        self, body: bytearray | None, headers: httpx2.Headers, old: KeySet | None, url: str, asked_at: Instant
    ) -> KeySet:
        if old is not None and body is None:
            self.report(Event.NOT_MODIFIED, url)
            return replace(old, fetched_at=asked_at, ttl=self._ttl(headers, old.ttl))
        members = read_object(body or b"", KEY_SET).get("keys")
        keys = await import_keys(members, self.algorithms, self.report)
        self.report(Event.FETCHED, url)
        etag = headers.get("etag", "")
        ttl = self._ttl(headers, self.timings.ttl_default)
        return KeySet(keys, url, asked_at, ttl, etag if _ETAG.fullmatch(etag) else None)

    def _ttl(self, headers: httpx2.Headers, default: float) -> float:
        """Return the max-age minus the Age of an intermediate cache (RFC 9111 section 4.2), within the bounds.

        For no-cache and no-store (section 5.2.2) it is the lower bound. Of several ages the first counts (section
        5.1), and of an age with too many digits the first twelve.
        """
        directives = headers.get("cache-control", "")
        max_age, age = _MAX_AGE.search(directives), _AGE.match(headers.get("age", ""))
        ttl = int(max_age[1]) - (int(age[0]) if age else 0) if max_age else default
        if _UNCACHED.search(directives):
            ttl = 0
        return min(max(ttl, self.timings.ttl_floor), self.timings.ttl_ceiling)
