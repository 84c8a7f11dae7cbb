"""Verifies access tokens: their form, header and signature, in the order of cost.

Claims are left to `claims`, keys to `cache`, responses over HTTP to `fastapi`, and threads to `sync`.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

from .cache import JwksCache
from .claims import AccessToken, read_claims
from .encoding import MALFORMED, read_base64url, read_object
from .errors import InvalidToken, KeysUnavailable, Reason, is_shortage
from .events import Event
from .jwk import KID
from .key_set import KeySet
from .logs import RefusalLog, shown, shown_kid, shown_list

MAX_TOKEN = 8 * 1024  # characters; parsing 200 KB would block the event loop for 20 ms
MAX_HEADER = 1366  # characters: 1 KiB in base64url
MAX_CACHED_HEADERS = 64  # header segments cached with a snapshot

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# A kid that looks like a URL or a path. A key published under such a kid is used; otherwise the token is an attack on
# verifiers that fetch the address (RFC 8725 section 3.10), and causes no fetch.
_ADDRESS = re.compile(r"(?=.*/)(?=.*[.:])|//|(?:data|file|jar|javascript):", re.IGNORECASE)
# With any of these a token would choose its own key, format or meaning (RFC 7515 section 4.1, RFC 8725).
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})


class Waiting(NamedTuple):
    """A token that can be verified only after a fetch, because its kid is unknown or a refresh is late."""

    cache: JwksCache
    is_late: bool


class TokenVerifier:
    """Verifies tokens with the keys of a cache; waits for a fetch only if a kid is unknown or a refresh is late.

    With several issuers, as a mapping of each issuer to its cache, the `iss` of a token chooses among them before the
    signature is verified. Nothing else is shared by them. Raises ValueError for a cache of another issuer.
    """

    def __init__(
        self,
        caches: JwksCache | Mapping[str, JwksCache],
        audience: str,
        *,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - a default that callers and tests replace
    ) -> None:
        by_issuer = {caches.issuer: caches} if isinstance(caches, JwksCache) else dict(caches)
        if not by_issuer or any(cache.issuer != issuer for issuer, cache in by_issuer.items()):
            raise ValueError("the caches must be given by the URL of their own issuer, at least one")
        self.caches: Mapping[str, JwksCache] = MappingProxyType(by_issuer)
        self.audience = audience
        self.wall = wall
        self._first = next(iter(by_issuer.values()))  # also reports refused tokens of no configured issuer
        self._has_several = len(by_issuer) > 1
        self.refusal_log = RefusalLog(self._first.monotonic)

    @property
    def cache(self) -> JwksCache:
        """The only cache; raises ValueError if there are several."""
        if self._has_several:
            raise ValueError("there are several issuers; their caches are in `caches`")
        return self._first

    async def __aenter__(self) -> Self:
        for cache in self.caches.values():
            await cache.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(*(cache.__aexit__(*error) for cache in self.caches.values()))

    def remaining(self, token: AccessToken) -> float:
        """Return the seconds until the token is no longer accepted."""
        leeway = self.caches.get(token.issuer, self._first).timings.leeway
        return token.expires_at + leeway - self.wall()

    async def verify(self, token: str) -> AccessToken:
        """Return the claims of a valid token of its issuer for this audience (RFC 9068 section 4).

        Raises InvalidToken, or KeysUnavailable without keys. A shortage of memory, file descriptors or threads is
        raised as it is.
        """
        verified = self.verify_now(token)
        return await self.verify_after_fetch(token, verified) if isinstance(verified, Waiting) else verified

    def verify_now(self, token: str) -> AccessToken | Waiting:
        """Do the same with the keys at hand, from any thread; a fetch is not waited for."""
        cache = self._first
        try:
            if self._has_several:
                cache = self._choose_cache(token)
            fresh = cache.fresh
            checked = self._check(cache, token, fresh or cache.usable)
            if isinstance(checked, str):
                return Waiting(cache, is_late=False)
            if fresh is None and cache.refresh_is_late:  # the key may have been removed meanwhile
                return Waiting(cache, is_late=True)
        except Exception as error:
            self._report(cache, error)
            raise
        cache.report(Event.ACCEPTED, checked[1])
        if fresh is None and not cache.fresh:
            cache.report(Event.SERVED_STALE, checked[1])
        return checked[0]

    async def verify_after_fetch(self, token: str, waiting: Waiting) -> AccessToken:
        """Verify a token after a fetch, if one is allowed now."""
        cache = waiting.cache
        try:
            # The only two places that wait for a fetch.
            keys = await (cache.refetched_late() if waiting.is_late else cache.refetched())
            checked = self._check(cache, token, keys)
            if isinstance(checked, str):
                detail = f"no key with kid {shown_kid(checked)} in {shown(keys.source)}"
                raise InvalidToken(Reason.UNKNOWN_KEY, detail)  # noqa: TRY301 - reported as the others are
        except Exception as error:
            self._report(cache, error)
            raise
        cache.report(Event.ACCEPTED, checked[1])
        if not cache.fresh:
            cache.report(Event.SERVED_STALE, checked[1])
        return checked[0]

    def _report(self, cache: JwksCache, error: Exception) -> None:
        """Report why a token is not accepted; an unexpected exception of a library becomes InvalidToken."""
        if isinstance(error, KeysUnavailable):
            cache.report(Event.UNAVAILABLE, cache.state)
            cache.outages.failed(cache.state)
        elif isinstance(error, InvalidToken):
            cache.report(Event.REJECTED, error.reason)
            self.refusal_log.refused(error)
        elif not is_shortage(error):
            reason = Reason.MALFORMED if isinstance(error, MALFORMED) else Reason.UNEXPECTED
            refusal = InvalidToken(reason)
            self._report(cache, refusal)
            raise refusal from error

    def _choose_cache(self, token: str) -> JwksCache:
        """Return the cache of the issuer that the token names; nothing else of it is used before its signature."""
        segments = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if segments is None:
            raise InvalidToken(Reason.MALFORMED)
        issuer = read_object(read_base64url(segments[2])).get("iss")
        cache = self.caches.get(issuer) if isinstance(issuer, str) else None
        if cache is None:
            expected = shown_list(self.caches)
            raise InvalidToken(Reason.ISSUER, f"iss is none of {expected} (the signature was not checked)")
        return cache

    def _check(self, cache: JwksCache, token: str, keys: KeySet | None) -> tuple[AccessToken, str] | str:
        """Return the verified token and the kid of its key, or the kid alone if only that is unknown to `keys`.

        Cheap checks come first.
        """
        segments = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if segments is None:
            raise InvalidToken(Reason.MALFORMED)
        header, payload, signature = segments.groups()
        key = keys.by_header.get(header) if keys else None
        if keys is None or key is None:
            kid, alg = _read_header(header, cache)
            key = keys.by_kid.get(kid) if keys else None
            if keys is None or key is None:
                if keys and _ADDRESS.match(kid):
                    raise InvalidToken(Reason.UNKNOWN_KEY, f"the kid {shown_kid(kid)} is an address")
                self._check_unsigned(
                    cache, payload, "its kid is unknown" if keys else "there are no keys yet"
                )
                return kid
            if key.algorithm_name != alg:
                raise InvalidToken(
                    Reason.UNKNOWN_KEY, f"the key {shown_kid(kid)} is for {key.algorithm_name}"
                )
        signed = token[: segments.end(2)].encode()
        if not key.Algorithm.verify(signed, key.key, read_base64url(signature)):  # checks the length, too
            raise InvalidToken(Reason.SIGNATURE)
        if len(keys.by_header) < MAX_CACHED_HEADERS:
            keys.by_header[header] = key  # only after the signature: forged headers never fill the cache
        leeway = cache.timings.leeway
        return read_claims(payload, cache.issuer, self.audience, self.wall(), leeway), str(key.key_id)

    def _check_unsigned(self, cache: JwksCache, payload: str, why: str) -> None:
        """Check claims before the signature: tokens of other issuers and expired ones cause no fetch.

        Nothing of such a token is logged.
        """
        try:
            read_claims(payload, cache.issuer, self.audience, self.wall(), cache.timings.leeway)
        except InvalidToken as refusal:
            words = {
                Reason.ISSUER: f"iss is not {cache.issuer} (signature not checked: {why})",
                Reason.AUDIENCE: f"aud does not contain {self.audience} (signature not checked: {why})",
            }
            raise InvalidToken(refusal.reason, words.get(refusal.reason, "")) from None


def _read_header(segment: str, cache: JwksCache) -> tuple[str, str]:
    """Return the kid and alg of a header that is valid otherwise (RFC 9068 section 4)."""
    if len(segment) > MAX_HEADER:
        raise InvalidToken(Reason.MALFORMED)
    header = read_object(read_base64url(segment))
    kid, alg = header.get("kid"), header.get("alg")
    # Without `typ` an ID token of the same issuer would be accepted (RFC 8725 section 3.11).
    typ = str(header.get("typ")).lower().removeprefix("application/")
    valid = alg in cache.algorithms and typ == "at+jwt" and not _FORBIDDEN_HEADERS & header.keys()
    if not valid or not isinstance(kid, str) or not KID.fullmatch(kid):
        raise InvalidToken(Reason.HEADER)
    return kid, str(alg)
