"""Verifies access tokens (RFC 9068) of one issuer with its published keys, without blocking the event loop.

To use it in another service, copy this file and install `PyJWT[crypto]` and `httpx2`:

    verifier = TokenVerifier(JwksCache("https://issuer.example"), audience="https://api.example")
    async with verifier.cache:  # for as long as the service runs
        token = await verifier.verify(bearer_token)  # or InvalidToken: a 401; KeysUnavailable: a 503

Responses over HTTP are left to `dependencies`.
"""

import asyncio
import binascii
import json
import logging
import math
import random
import re
import ssl
import string
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple, Self

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

MAX_TOKEN = 8 * 1024  # characters; parsing 200 KB would block the event loop for 20 ms
MAX_HEADER = 1366  # characters: 1 KiB in base64url
MAX_BODY = 64 * 1024  # bytes of a fetched document
MAX_KEYS = 256  # members read from a key set; more fit into MAX_BODY only if they are too small to be keys
MAX_CACHED_HEADERS = 64  # header segments cached with a snapshot
MAX_WAITERS = 64  # requests that wait for an unknown kid: attackers can invent any number of kids
MAX_WAITERS_WITHOUT_KEYS = 4096  # the same without keys, when no request can be recognised as an attack
RSA_BITS, RSA_EXPONENT = range(2048, 8192 + 1), 65537
P256_COORDINATE = 32  # octets, RFC 7518 section 6.2.1.2
LAST_INSTANT = 253_402_300_799  # the end of the year 9999, the last that `datetime` can represent
TICK = 5  # seconds between two looks at the clocks: the event loop's own clock stops during a suspend
SLACK = 1  # seconds by which a timer may be late before the machine counts as having been suspended

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_LAST_CHARACTERS = (string.ascii_letters + string.digits + "-_", "", "AQgw", "AEIMQUYcgkosw048")
_KID = re.compile(r"[A-Za-z0-9._~:+/=@#-]{1,256}")
# A kid that looks like a URL or a path. A key published under such a kid is used; otherwise the token is an attack on
# verifiers that fetch the address (RFC 8725 section 3.10), and causes no fetch.
_ADDRESS = re.compile(r"(?=.*/)(?=.*[.:])|//|(?:data|file|jar|javascript):", re.IGNORECASE)
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # safe in JSON and logs
_SCOPE = re.compile(r"(?:[!\x23-\x5b\x5d-~]+(?: [!\x23-\x5b\x5d-~]+)*)?")  # RFC 6749 section 3.3
_ETAG = re.compile(r'(?:W/)?"[!\x23-~]{0,256}"')
_MAX_AGE = re.compile(r'(?<![\w-])max-age="?([0-9]{1,12})\b', re.IGNORECASE)
# Not the form for single fields: no-cache="…".
_UNCACHED = re.compile(r"(?<![\w-])no-(?:cache|store)(?![\w=-])", re.IGNORECASE)
_AGE = re.compile(r"[0-9]{1,12}")
# With any of these a token would choose its own key, format or meaning (RFC 7515 section 4.1, RFC 8725).
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})
_required_claims = itemgetter("iss", "sub", "client_id", "jti", "aud", "iat", "exp")  # RFC 9068 section 2.2
_NUMBERS = frozenset({int, float})  # the types of JSON numbers; `bool` is excluded
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# The operations registered by RFC 7517 section 4.3, without `sign` and `verify`.
_OTHER_OPS = frozenset({"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"})
_KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # the kty for each algorithm
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}  # the crv for each kty that has one
# Modulo each of these primes, a modulus of CVE-2017-15361 (ROCA) is a power of 65537; other numbers hardly ever are.
_PRIMES = [p for p in range(3, 168) if all(p % divisor for divisor in range(2, p))]
_POWERS = {p: {pow(RSA_EXPONENT, k, p) for k in range(p)} for p in _PRIMES}
_MALFORMED = (ValueError, TypeError, RecursionError)  # what parsing raises
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_JITTER = random.SystemRandom()

# The state of the keys by their age; the events passed to `on_event`, with one line of detail that never contains a
# token; and the reasons for a rejection, for `on_event` alone: callers learn of EXPIRED only, more helps forgers.
State = StrEnum("State", "EMPTY FRESH STALE EXPIRED")
Event = StrEnum(
    "Event",
    "FETCHED NOT_MODIFIED FETCH_FAILED REFETCH_SUPPRESSED KEY_ADDED KEY_REMOVED KEY_SKIPPED "
    "ACCEPTED REJECTED UNAVAILABLE SERVED_STALE",
)
Reason = StrEnum(
    "Reason",
    "MALFORMED HEADER UNKNOWN_KEY SIGNATURE CLAIMS ISSUER AUDIENCE NOT_YET_VALID EXPIRED UNEXPECTED",
)


@dataclass(eq=False)
class InvalidToken(Exception):
    """The token is not a valid token of this issuer for this service."""

    reason: Reason


@dataclass(eq=False)
class KeysUnavailable(Exception):
    """There are no usable keys; `retry_after` is in whole seconds."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Lifetimes, waiting times and pauses, in seconds."""

    ttl_default: float = 300  # for an answer without max-age
    ttl_floor: float = 60  # limits the rate of fetches
    ttl_ceiling: float = 3600  # bounds the delay until a revocation takes effect
    max_stale: float = 3600  # after the ttl; then KeysUnavailable
    refresh_from: float = 0.75  # share of the ttl after which to refresh, chosen at random between this
    refresh_to: float = 0.85  # and this, so that workers started together fetch at different times
    backoff_first: float = 1
    backoff_last: float = 60
    cooldown: float = 10  # from any attempt to a refetch for an unknown kid
    cooldown_empty: float = 1  # the same while EMPTY
    wait: float = 2  # for which a request waits for a fetch
    # In total: timeouts of the HTTP client are per read, so slow responses outlast them.
    fetch_deadline: float = 3
    connect_timeout: float = 1
    leeway: float = 10  # between the clocks of two hosts

    def __post_init__(self) -> None:
        if not 0 < self.ttl_floor <= self.ttl_ceiling:
            raise ValueError("the ttl floor must be above 0 s and not above the ceiling")


class AccessToken(NamedTuple):  # created in a third of the time of a frozen dataclass
    """The claims of a verified token (RFC 9068 section 2.2); instants in seconds since 1970."""

    subject: str
    client_id: str
    username: str | None  # None for a token of client credentials
    scopes: frozenset[str]
    issuer: str
    audience: tuple[str, ...]
    issued_at: float  # an int, unless the issuer sends fractions
    expires_at: float
    jti: str


class Instant(NamedTuple):
    """An instant on both clocks: the monotonic clock stops during a suspend, the wall clock can be set."""

    monotonic: float
    wall: float

    def later(self, seconds: float) -> "Instant":
        """Return the instant that many seconds later."""
        return Instant(self.monotonic + seconds, self.wall + seconds)


@dataclass(frozen=True, slots=True)
class KeySet:
    """A snapshot of the published keys, only ever replaced as a whole."""

    by_kid: Mapping[str, PyJWK]  # each bound to the one algorithm it verifies
    source: str
    fetched_at: float  # monotonic, when it was asked for
    fetched_at_wall: float  # the same instant on the wall clock
    ttl: float
    etag: str | None
    by_header: dict[str, PyJWK] = field(default_factory=dict, repr=False)  # header segment -> key
    expires_at: Instant = field(init=False)  # computed once: every request compares with it

    def __post_init__(self) -> None:
        expires_at = Instant(self.fetched_at, self.fetched_at_wall).later(self.ttl)
        object.__setattr__(self, "expires_at", expires_at)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # parsers differ in which of the two they use
        raise ValueError("duplicate member")
    return members


_JSON = json.JSONDecoder(object_pairs_hook=_members, parse_constant=int)  # int("NaN") raises ValueError
# In a key set a member twice, and a number that int() refuses, spoil their own key alone.
_KEY_SET = json.JSONDecoder(
    object_pairs_hook=lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else None,
    parse_constant=str,
    parse_int=float,
)


def _read_object(raw: bytes | bytearray, decoder: json.JSONDecoder = _JSON) -> dict[str, Any]:
    text = raw.strip(b" \t\r\n").decode()
    document, end = decoder.raw_decode(text)
    if end != len(text) or not isinstance(document, dict):
        raise ValueError("not one JSON object")
    return document


def _read_base64url(segment: str) -> bytes:
    if segment[-1] not in _LAST_CHARACTERS[len(segment) % 4]:
        raise ValueError("not canonical")  # else one token would have several encodings
    return binascii.a2b_base64(segment.replace("-", "+").replace("_", "/") + "==")  # padding enough for any


def _check_url(text: object, *, allow_http: bool) -> httpx2.URL:
    """Parse a URL that may be fetched: https, or http if allowed or on loopback; raise ValueError for any other."""
    try:
        url = httpx2.URL(text)  # type: ignore[arg-type]  # a discovered one may be anything
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"not a URL: {text!a:.200}") from error
    allowed = url.scheme == "https" or (url.scheme == "http" and (allow_http or url.host in _LOOPBACK))
    if not allowed or not url.host or url.userinfo or url.fragment:
        raise ValueError(f"neither an https URL nor http on this machine: {text!a:.200}")
    return url


def _octets(jwk: Mapping[str, Any], name: str) -> bytes:
    """Decode a member in base64url without padding (RFC 7515 section 2); PyJWT accepts other encodings, too."""
    text = jwk.get(name)
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError(f"{name} is not base64url without padding")
    return _read_base64url(text)


def _check_numbers(jwk: Mapping[str, Any]) -> None:
    """Raise ValueError unless the numbers are encoded as RFC 7518 section 6 and RFC 8037 section 2 require."""
    if jwk["kty"] == "RSA":
        for name in ("n", "e"):
            if not _octets(jwk, name)[0]:  # Base64urlUInt, RFC 7518 section 2
                raise ValueError(f"{name} does not use the minimum number of octets")
        return
    for name in ("x", "y") if jwk["kty"] == "EC" else ("x",):
        if len(_octets(jwk, name)) != P256_COORDINATE:  # as many as Ed25519 has, RFC 8032 section 5.1.5
            raise ValueError(f"{name} has not {P256_COORDINATE} octets")


def _is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    """Whether `use` and `key_ops`, where present, allow verifying and are consistent (RFC 7517 section 4.3)."""
    if jwk.get("use", "sig") != "sig":
        return False
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
        return False
    contradicts = "use" in jwk and not _OTHER_OPS.isdisjoint(operations)
    return "verify" in operations and len(set(operations)) == len(operations) and not contradicts


def import_key(jwk: object, algorithms: Sequence[str]) -> PyJWK:
    """Import a JWK (RFC 7517 section 4) for the first of `algorithms` that matches; raise if the key is unusable.

    Unknown members are ignored, as that section requires.
    """
    if not isinstance(jwk, dict) or _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("not a public key")
    kid, kty = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise ValueError("no usable kid")
    alg = next((a for a in algorithms if _KINDS[a] == kty and jwk.get("alg", a) == a), None)
    if alg is None or not _is_for_verifying(jwk):
        raise ValueError("for another use or another algorithm")
    if kty in _CURVES and jwk.get("crv") != _CURVES[kty]:
        raise ValueError("of another curve")
    _check_numbers(jwk)
    key = PyJWK(jwk, alg)
    if isinstance(key.key, RSAPublicKey):
        n, e = key.key.public_numbers().n, key.key.public_numbers().e
        sound = key.key.key_size in RSA_BITS and e == RSA_EXPONENT and all(n % p for p in (2, *_PRIMES))
        if not sound or all(n % p in _POWERS[p] for p in _PRIMES):
            raise ValueError("an RSA key that is weak, oversized or of CVE-2017-15361")
    return key


def _trusted_authorities(ca_file: str | None) -> ssl.SSLContext:
    """Trust only the authorities in `ca_file`; without it those of SSL_CERT_FILE, SSL_CERT_DIR or the system."""
    shown = f"the CA file {ca_file!a:.200}" if ca_file else "the file in SSL_CERT_FILE"
    try:
        if ca_file:
            return ssl.create_default_context(cafile=ca_file)
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"{error}"
        raise ValueError(f"{shown} cannot be used: {reason}") from error


def _read_proxy(text: str | None, trusted: ssl.SSLContext) -> httpx2.Proxy | None:
    """Parse the URL of a proxy, http or https; a ValueError shows no part of it, as it may contain a password."""
    if not text:
        return None
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    valid = url.scheme in {"http", "https"} and url.host and (url.port or 80) in range(1, 65536)
    if not valid or url.path != "/" or url.query or url.fragment:
        raise ValueError("the proxy is not given as http://host:port or https://host:port")
    return httpx2.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)


@dataclass(eq=False, repr=False)
class JwksCache:
    """The issuer's published keys, refreshed in advance, one fetch at a time; use it in `async with`.

    The constructor raises ValueError for unusable URLs, algorithms and certificate files. Network errors are never
    raised: a failed fetch is reported to `on_event` and retried, and the old keys stay.
    """

    issuer: str
    _: KW_ONLY
    jwks_url: str | None = None  # None: found by discovery
    algorithms: Sequence[str] = ("RS256",)
    timings: Timings = field(default_factory=Timings)
    allow_http: bool = False
    ca_file: str | None = None  # PEM with the authorities to trust; None: SSL_CERT_FILE, or the system's
    proxy: str | None = None  # for fetches except from loopback; proxies of the environment are never used
    transport: httpx2.AsyncBaseTransport | None = None
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # noqa: TID251 - a default that callers and tests replace
    on_event: Callable[[Event, str], None] = lambda _event, _detail: None

    def __post_init__(self) -> None:
        for url in (self.issuer, self.jwks_url):
            if url is not None:
                _check_url(url, allow_http=self.allow_http)
        if not self.algorithms or not _KINDS.keys() >= set(self.algorithms):
            raise ValueError(f"algorithms must be among {', '.join(_KINDS)}")
        self._snapshot: KeySet | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late_fetch: asyncio.Task[None] | None = None  # the fetch that became due during a suspend
        self._attempted_at = self._next_attempt_at = self._expected_at = Instant(-math.inf, -math.inf)
        self._is_closing = False
        self._failures = self._waiters = 0
        self._refresh_share = _JITTER.uniform(self.timings.refresh_from, self.timings.refresh_to)
        # Created here, because that blocks for a while. No redirects, no netrc, no proxy of the environment: requests
        # go only where the configuration says. No connection is kept alive: fetches are minutes apart, and a broken
        # connection would fail a fetch. So a stop has nothing to close, and the cache can be started again.
        trusted = _trusted_authorities(self.ca_file)
        self._client = httpx2.AsyncClient(
            transport=self.transport,
            verify=trusted,
            proxy=_read_proxy(self.proxy, trusted),
            # The proxy's loopback is another machine, and plain http is allowed on the own loopback only.
            mounts={f"all://[{host}]" if ":" in host else f"all://{host}": None for host in _LOOPBACK},
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(self.timings.fetch_deadline, connect=self.timings.connect_timeout),
            limits=httpx2.Limits(max_connections=2, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        self._is_closing = False
        self.refresh()  # not awaited: the service starts even if the issuer is down
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.5)

    def report(self, event: Event, detail: str) -> None:
        """Call `on_event`; an exception in it is logged and has no other effect."""
        try:
            self.on_event(event, detail)
        except (Exception, asyncio.CancelledError):  # `on_event` is not awaited: no task was cancelled
            with suppress(Exception):  # the service's log handlers and filters may raise, too
                logging.getLogger(__name__).exception("on_event failed")

    def _now(self) -> Instant:
        return Instant(self.monotonic(), self.wall())

    def _since(self, then: Instant) -> float:
        """Seconds since `then`, the greater of both clocks.

        The monotonic clock stops while the machine is suspended. The wall clock can be set: set back, it extends
        nothing; set forward, it makes the keys stale too early, until the next fetch.
        """
        return max(self.monotonic() - then.monotonic, self.wall() - then.wall)

    @property
    def age(self) -> float:
        """Seconds since the keys were requested; infinite without keys."""
        keys = self._snapshot
        return self._since(Instant(keys.fetched_at, keys.fetched_at_wall)) if keys else math.inf

    @property
    def fresh(self) -> KeySet | None:
        """The snapshot while it is FRESH."""
        keys = self._snapshot
        if keys is None:
            return None
        monotonic, wall = keys.expires_at
        return keys if self.monotonic() <= monotonic and self.wall() <= wall else None

    @property
    def usable(self) -> KeySet | None:
        """The snapshot while it is FRESH or STALE."""
        keys = self._snapshot
        return keys if keys and self.age <= keys.ttl + self.timings.max_stale else None

    @property
    def state(self) -> State:
        """The state of the keys now; derived from their age, never stored."""
        if self._snapshot is None:
            return State.EMPTY
        if self.fresh:
            return State.FRESH
        return State.STALE if self.usable else State.EXPIRED

    @property
    def refresh_is_late(self) -> bool:
        """Whether a fetch is late because the machine was suspended, or such a late fetch is in progress.

        During an outage of the issuer no fetch is late: each failure sets the time of the next one.
        """
        if self._late_fetch is not None and not self._late_fetch.done():
            return True
        return self._snapshot is not None and self._since(self._expected_at) > SLACK

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1."""
        return max(1, math.ceil(max(0, -self._since(self._next_attempt_at))))

    def refresh(self) -> asyncio.Task[None]:
        """Return the task of the fetch in progress, shared by all callers, or of a new one; the task never raises."""
        if self._task is None or self._task.done():
            self._attempted_at = self._now()
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
        keys = self.usable
        if keys is None:
            raise KeysUnavailable(self.retry_after)
        return keys

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
        return rested >= least and self._since(self._attempted_at) >= cooldown

    async def refetched_late(self) -> KeySet:
        """Return the keys after the late fetch (see `refresh_is_late`); raise KeysUnavailable without keys."""
        rested = self.monotonic() - self._attempted_at.monotonic
        if (self._late_fetch is None or self._late_fetch.done()) and rested >= self.timings.cooldown_empty:
            self._late_fetch = self.refresh()
        if self._late_fetch is not None:
            await asyncio.wait({self._late_fetch}, timeout=self.timings.wait)
        keys = self.usable
        if keys is None:
            raise KeysUnavailable(self.retry_after)
        return keys

    async def _attempt(self) -> None:
        try:
            async with asyncio.timeout(self.timings.fetch_deadline):
                fetched = await self._fetch()
            old = self._snapshot.by_kid if self._snapshot else {}
            self._snapshot, self._failures = fetched, 0
            for kid in sorted(old.keys() ^ fetched.by_kid.keys()):
                self.report(Event.KEY_REMOVED if kid in old else Event.KEY_ADDED, kid)
        except Exception as error:  # noqa: BLE001 - the old keys stay, whatever the network or a library raises
            self._failures += 1
            self.report(Event.FETCH_FAILED, f"{type(error).__name__}: {str(error)!a:.200}")

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
        self._next_attempt_at = self._now().later(delay)
        if not is_late or attempt is self._late_fetch:  # else the next one is due now, but only once
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

    async def _fetch(self) -> KeySet:
        asked_at, old = self._attempted_at, self._snapshot
        # After a failure the URL is discovered again: it may have changed.
        found = old.source if old and not self._failures else None
        url = self.jwks_url or found or await self._discover()
        if old is not None and old.source != url:
            old = None
        body, headers = await self._get(url, old.etag if old else None)
        if old is not None and body is None:
            self.report(Event.NOT_MODIFIED, url)
            ttl = self._ttl(headers, old.ttl)
            return replace(old, fetched_at=asked_at.monotonic, fetched_at_wall=asked_at.wall, ttl=ttl)
        keys = await self._import_keys(_read_object(body or b"", _KEY_SET).get("keys"))
        self.report(Event.FETCHED, url)
        etag = headers.get("etag", "")
        ttl = self._ttl(headers, self.timings.ttl_default)
        return KeySet(keys, url, *asked_at, ttl, etag if _ETAG.fullmatch(etag) else None)

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

    async def _import_keys(self, members: object) -> dict[str, PyJWK]:
        """Import key by key, so that an unusable key affects no other, and many keys do not block the event loop."""
        if not isinstance(members, list):
            raise ValueError("not a key set")  # noqa: TRY004 - an error of the sender, not of the caller
        keys: dict[str, PyJWK | None] = {}
        rank = list(self.algorithms).index
        exposed: set[str] = set()  # kids with a published private key
        for position, jwk in enumerate(members[:MAX_KEYS]):
            try:
                if isinstance(jwk, dict) and _PRIVATE_MEMBERS & jwk.keys():
                    exposed.add(str(jwk.get("kid")))
                key, kid = import_key(jwk, self.algorithms), jwk["kid"]
                known = keys.setdefault(kid, key)
                if known is None or known.key != key.key:
                    keys[kid] = None  # ambiguous; the same key listed twice is not
                elif rank(key.algorithm_name) < rank(known.algorithm_name):
                    keys[kid] = key  # the same key listed for several algorithms
            except Exception as error:  # noqa: BLE001 - a hostile JWK may raise anything
                self.report(Event.KEY_SKIPPED, f"#{position}: {str(error)!a:.200}")
            await asyncio.sleep(0)
        if len(members) > MAX_KEYS:
            self.report(Event.KEY_SKIPPED, f"all after the first {MAX_KEYS}")
        usable = {kid: key for kid, key in keys.items() if key and kid not in exposed}
        for kid in keys.keys() - usable.keys():
            reason = "its private key is published" if kid in exposed else "different keys of this kid"
            self.report(Event.KEY_SKIPPED, f"{kid}: {reason}")
        if not usable:
            raise ValueError("no usable key")
        return usable

    async def _discover(self) -> str:
        """Return the `jwks_uri` found by RFC 8414 section 3, else by OpenID Connect Discovery section 4."""
        issuer = httpx2.URL(self.issuer)
        path = issuer.path.rstrip("/")
        failures = []
        oauth, openid = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
        for place in (oauth + path, path + openid):
            try:
                return await self._read_metadata(issuer.copy_with(path=place))
            except (httpx2.HTTPError, *_MALFORMED) as error:
                failures.append(f"{place}: {error}")
        raise ValueError("; ".join(failures))

    async def _read_metadata(self, location: httpx2.URL) -> str:
        body, _ = await self._get(str(location))
        document = _read_object(body or b"")
        if document.get("issuer") != self.issuer:  # RFC 8414 section 3.3
            raise ValueError("the metadata of another issuer")
        url = _check_url(document.get("jwks_uri"), allow_http=self.allow_http)
        if location.scheme == "https" != url.scheme:
            raise ValueError("https metadata with an http jwks_uri")
        return str(url)

    async def _get(self, url: str, etag: str | None = None) -> tuple[bytearray | None, httpx2.Headers]:
        """Return the body, or None if it still matches `etag`; its size is checked while it arrives."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {"If-None-Match": etag} if etag else {}
        self._client.cookies.clear()  # no state from earlier responses
        async with AsyncExitStack() as stack:

            async def close_at_exit(event: str, info: Mapping[str, Any]) -> None:
                # A TLS handshake that is cancelled would leave the connection open.
                if event == "connection.connect_tcp.complete":
                    stack.push_async_callback(info["return_value"].aclose)

            request = self._client.stream("GET", url, headers=headers, extensions={"trace": close_at_exit})
            response = await stack.enter_async_context(request)
            if response.status_code == httpx2.codes.NOT_MODIFIED and etag:
                return None, response.headers
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                # It could be a compression bomb.
                raise ValueError("compressed, despite Accept-Encoding: identity")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise ValueError(f"more than {MAX_BODY} bytes")
                await asyncio.sleep(0)  # many small chunks at once would block the event loop
            return body, response.headers


@dataclass(eq=False, repr=False)
class TokenVerifier:
    """Verifies tokens with the keys of `cache`; waits for a fetch only if a kid is unknown or a refresh is late."""

    cache: JwksCache
    audience: str
    _: KW_ONLY
    wall: Callable[[], float] = time.time  # noqa: TID251 - a default that callers and tests replace

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
            reason = Reason.MALFORMED if isinstance(error, _MALFORMED) else Reason.UNEXPECTED
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
        if not key.Algorithm.verify(signed, key.key, _read_base64url(signature)):  # checks the length, too
            raise InvalidToken(Reason.SIGNATURE)
        if len(keys.by_header) < MAX_CACHED_HEADERS:
            keys.by_header[header] = key  # only after the signature: forged headers never fill the cache
        return self._read_claims(payload), str(key.key_id)

    def _read_header(self, segment: str) -> tuple[str, str]:
        """Return the kid and alg of a header that is valid otherwise (RFC 9068 section 4)."""
        if len(segment) > MAX_HEADER:
            raise InvalidToken(Reason.MALFORMED)
        header = _read_object(_read_base64url(segment))
        kid, alg = header.get("kid"), header.get("alg")
        # Without `typ` an ID token of the same issuer would be accepted (RFC 8725 section 3.11).
        typ = str(header.get("typ")).lower().removeprefix("application/")
        valid = alg in self.cache.algorithms and typ == "at+jwt" and not _FORBIDDEN_HEADERS & header.keys()
        if not valid or not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise InvalidToken(Reason.HEADER)
        return kid, str(alg)

    def _read_claims(self, segment: str) -> AccessToken:
        """Return the claims if they are complete, of this issuer, for this audience and valid now."""
        claims = _read_object(_read_base64url(segment))
        try:
            iss, sub, client_id, jti, aud, iat, exp = _required_claims(claims)
            scope, nbf = claims.get("scope", ""), claims.get("nbf", 0)
            audience = tuple(aud) if isinstance(aud, list) else (aud,)
            texts = (iss, sub, client_id, jti, claims.get("username", "-"), *audience)
            text = "".join(texts)
            printable = text.isprintable() or _TEXT.fullmatch(text)  # the first is fast and usually enough
            complete = printable and all(texts) and _SCOPE.fullmatch(scope)
        except (KeyError, TypeError):  # missing, or not a string
            complete = None
        if not complete:
            raise InvalidToken(Reason.CLAIMS)
        # NumericDate (RFC 7519 section 2) is a JSON number, with a fraction or without. No isinstance: a bool is an
        # int to it. The set is built only if the three are not all integers, which is rare.
        if (
            not type(iat) is type(exp) is type(nbf) is int
            and not {type(iat), type(exp), type(nbf)} <= _NUMBERS
        ):
            raise InvalidToken(Reason.CLAIMS)
        # Infinity, the value of 1e999, is out of range, too.
        if not (0 <= iat <= LAST_INSTANT and 0 <= exp <= LAST_INSTANT and 0 <= nbf <= LAST_INSTANT):
            raise InvalidToken(Reason.CLAIMS)
        if iss != self.cache.issuer:
            raise InvalidToken(Reason.ISSUER)
        if self.audience not in audience:
            raise InvalidToken(Reason.AUDIENCE)
        now, leeway = self.wall(), self.cache.timings.leeway
        if iat > now + leeway or nbf > now + leeway:
            raise InvalidToken(Reason.NOT_YET_VALID)
        if exp <= now - leeway:
            raise InvalidToken(Reason.EXPIRED)
        username, scopes = claims.get("username"), frozenset(scope.split())
        return AccessToken(sub, client_id, username, scopes, iss, audience, iat, exp, jti)
