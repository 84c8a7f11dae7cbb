"""Verifies access tokens: their form, header and signature, in the order of cost.

Claims are left to `claims`, keys to `cache`, responses over HTTP to `fastapi`.
"""

import re
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Self

from .cache import JwksCache
from .claims import AccessToken, read_claims
from .encoding import MALFORMED, read_base64url, read_object
from .errors import InvalidToken, KeysUnavailable, Reason
from .events import Event
from .jwk import KID
from .key_set import KeySet

MAX_TOKEN = 8 * 1024  # characters; parsing 200 KB would block the event loop for 20 ms
MAX_HEADER = 1366  # characters: 1 KiB in base64url
MAX_CACHED_HEADERS = 64  # header segments cached with a snapshot

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# A kid that looks like a URL or a path. A key published under such a kid is used; otherwise the token is an attack on
# verifiers that fetch the address (RFC 8725 section 3.10), and causes no fetch.
_ADDRESS = re.compile(r"(?=.*/)(?=.*[.:])|//|(?:data|file|jar|javascript):", re.IGNORECASE)
# With any of these a token would choose its own key, format or meaning (RFC 7515 section 4.1, RFC 8725).
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})


@dataclass(eq=False, repr=False)
class TokenVerifier:
    """Verifies tokens with the keys of `cache`; waits for a fetch only if a kid is unknown or a refresh is late."""

    cache: JwksCache
    audience: str
    _: KW_ONLY
    wall: Callable[[], float] = time.time  # noqa: TID251 - a default that callers and tests replace

    async def __aenter__(self) -> Self:
        await self.cache.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cache.__aexit__(*error)

    async def verify(self, token: str) -> AccessToken:
        """Return the claims of a valid token of this issuer for this audience (RFC 9068 section 4).

        Raises InvalidToken, or KeysUnavailable without keys.
        """
        cache, report = self.cache, self.cache.report
        try:
            fresh = cache.fresh
            keys = fresh or cache.usable
            verified = self._check(token, keys)
            # The only two places that wait for a fetch.
            if verified is None:
                verified = self._check(token, await cache.refetched())
            elif fresh is None and cache.refresh_is_late:  # the key may have been removed meanwhile
                verified = self._check(token, await cache.refetched_late())
        except InvalidToken as rejection:
            report(Event.REJECTED, rejection.reason)
            raise
        except KeysUnavailable:
            report(Event.UNAVAILABLE, cache.state)
            raise
        except Exception as error:  # an unexpected exception of a library rejects the token, and is counted
            reason = Reason.MALFORMED if isinstance(error, MALFORMED) else Reason.UNEXPECTED
            report(Event.REJECTED, reason)
            raise InvalidToken(reason) from error
        if verified is None:
            report(Event.REJECTED, Reason.UNKNOWN_KEY)
            raise InvalidToken(Reason.UNKNOWN_KEY)
        access, kid = verified
        report(Event.ACCEPTED, kid)
        if fresh is None and not cache.fresh:
            report(Event.SERVED_STALE, kid)
        return access

    def _check(self, token: str, keys: KeySet | None) -> tuple[AccessToken, str] | None:
        """Return the verified token and the kid of its key, or None if only the kid is unknown to `keys`.

        Cheap checks come first.
        """
        segments = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if segments is None:
            raise InvalidToken(Reason.MALFORMED)
        header, payload, signature = segments.groups()
        key = keys.by_header.get(header) if keys else None
        if keys is None or key is None:
            kid, alg = self._read_header(header)
            key = keys.by_kid.get(kid) if keys else None
            if keys is None or key is None:
                if keys and _ADDRESS.match(kid):
                    raise InvalidToken(Reason.UNKNOWN_KEY)
                self._read_claims(payload)  # first: tokens of other issuers and expired ones cause no fetch
                return None
            if key.algorithm_name != alg:
                raise InvalidToken(Reason.UNKNOWN_KEY)
        signed = token[: segments.end(2)].encode()
        if not key.Algorithm.verify(signed, key.key, read_base64url(signature)):  # checks the length, too
            raise InvalidToken(Reason.SIGNATURE)
        if len(keys.by_header) < MAX_CACHED_HEADERS:
            keys.by_header[header] = key  # only after the signature: forged headers never fill the cache
        return self._read_claims(payload), str(key.key_id)

    def _read_header(self, segment: str) -> tuple[str, str]:
        """Return the kid and alg of a header that is valid otherwise (RFC 9068 section 4)."""
        if len(segment) > MAX_HEADER:
            raise InvalidToken(Reason.MALFORMED)
        header = read_object(read_base64url(segment))
        kid, alg = header.get("kid"), header.get("alg")
        # Without `typ` an ID token of the same issuer would be accepted (RFC 8725 section 3.11).
        typ = str(header.get("typ")).lower().removeprefix("application/")
        valid = alg in self.cache.algorithms and typ == "at+jwt" and not _FORBIDDEN_HEADERS & header.keys()
        if not valid or not isinstance(kid, str) or not KID.fullmatch(kid):
            raise InvalidToken(Reason.HEADER)
        return kid, str(alg)

    def _read_claims(self, segment: str) -> AccessToken:
        cache = self.cache
        return read_claims(segment, cache.issuer, self.audience, self.wall(), cache.timings.leeway)
