"""Verifies one issuer's access tokens (RFC 9068) by the keys it publishes, and never blocks the event loop.

To take it into a service of your own, copy this file, and install `PyJWT[crypto]` and `httpx2`:

    verifier = TokenVerifier(JwksCache("https://issuer.example"), audience="https://api.example")
    async with verifier.cache:  # for as long as the service runs
        token = await verifier.verify(bearer_token)  # or InvalidToken: a 401; KeysUnavailable: a 503

What that looks like over HTTP is left to `dependencies`.
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

MAX_TOKEN = 8 * 1024  # characters; parsing 200 KB of junk would hold the event loop for 20 ms
MAX_HEADER = 1366  # characters: 1 KiB in base64url
MAX_BODY = 64 * 1024  # bytes of a fetched document
MAX_KEYS = 256  # members of a key set that are read; more would fit into MAX_BODY only if they were tiny
MAX_MEMO = 64  # header segments remembered with a snapshot
MAX_WAITERS = 64  # requests parked behind an unknown kid: attackers can make up any number of kids
MAX_COLD_WAITERS = 4096  # the same while there are no keys, when nobody can be told from anybody
RSA_BITS, RSA_EXPONENT = range(2048, 8192 + 1), 65537
P256_COORDINATE = 32  # octets, RFC 7518 section 6.2.1.2
LAST_INSTANT = 253_402_300_799  # the end of the year 9999; later ones break calendars
TICK = 5  # seconds after which a waiting timer looks at the clocks again: its own stands still in a suspend
SLACK = 1  # seconds by which a timer may be late before this machine counts as having been suspended

_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_LAST_CHARACTERS = (string.ascii_letters + string.digits + "-_", "", "AQgw", "AEIMQUYcgkosw048")
_KID = re.compile(r"[A-Za-z0-9._~:+/=@#-]{1,256}")
# A kid that reads as a URL or a path. A key that the issuer publishes under such a kid is used; if there is none, the
# token is an attack on verifiers that follow the address (RFC 8725 section 3.10), and no fetch is made for it.
_ADDRESS = re.compile(r"(?=.*/)(?=.*[.:])|//|(?:data|file|jar|javascript):", re.IGNORECASE)
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # what JSON and logs carry without harm
_SCOPE = re.compile(r"(?:[!\x23-\x5b\x5d-~]+(?: [!\x23-\x5b\x5d-~]+)*)?")  # RFC 6749 section 3.3
_ETAG = re.compile(r'(?:W/)?"[!\x23-~]{0,256}"')
_MAX_AGE = re.compile(r'(?<![\w-])max-age="?([0-9]{1,12})\b', re.IGNORECASE)
_UNCACHED = re.compile(
    r"(?<![\w-])no-(?:cache|store)(?![\w=-])", re.IGNORECASE
)  # not of single fields: no-cache="…"
_AGE = re.compile(r"[0-9]{1,12}")
# With each of these a token would choose its own key, form or meaning (RFC 7515 section 4.1, RFC 8725).
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})
_required = itemgetter("iss", "sub", "client_id", "jti", "aud", "iat", "exp")  # RFC 9068 section 2.2
_NUMBERS = frozenset({int, float})  # what JSON's numbers are read as; a bool is none of them
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# The registered operations of RFC 7517 section 4.3 that are not those of signatures.
_OTHER_OPS = frozenset({"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"})
_KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # the kty for each algorithm
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}  # the crv for each kty that has one
# Modulo each prime of these a modulus of CVE-2017-15361 (ROCA) is a power of 65537; hardly any other number is.
_PRIMES = [p for p in range(3, 168) if all(p % divisor for divisor in range(2, p))]
_POWERS = {p: {pow(RSA_EXPONENT, k, p) for k in range(p)} for p in _PRIMES}
_MALFORMED = (ValueError, TypeError, RecursionError)  # what reading raises
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_JITTER = random.SystemRandom()

# What the age of the snapshot allows; what `on_event` is told, with a line of detail that never holds a token;
# and why a token was refused, for `on_event` alone: a caller may be told of EXPIRED, anything more teaches forgers.
State = StrEnum("State", "EMPTY FRESH STALE DEAD")
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
    """The token is not, or no longer, a live token of this issuer for this service."""

    reason: Reason


@dataclass(eq=False)
class KeysUnavailable(Exception):
    """There are no keys to judge by; another try is worth while after so many whole seconds."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the verifier trusts, waits and holds back, in seconds."""

    ttl_default: float = 300  # for an answer without max-age
    ttl_floor: float = 60  # stops a storm of fetches
    ttl_ceiling: float = 3600  # bounds how late a revocation is seen
    max_stale: float = 3600  # after the ttl; then it fails closed
    refresh_from: float = 0.75  # share of the ttl after which to refresh: one chosen at random from here
    refresh_to: float = 0.85  # to here, so that workers started together drift apart
    backoff_first: float = 1
    backoff_last: float = 60
    cooldown: float = 10  # from any attempt to a refetch for an unknown kid
    cooldown_empty: float = 1  # the same while EMPTY
    wait: float = 2  # of a request for a fetch
    fetch_deadline: float = 3  # in total: a client's timeouts are per read, a slow drip outlives them
    connect_timeout: float = 1
    leeway: float = 10  # between the clocks of two hosts

    def __post_init__(self) -> None:
        if not 0 < self.ttl_floor <= self.ttl_ceiling:
            raise ValueError("the ttl floor must be above 0 s and not above the ceiling")


class AccessToken(NamedTuple):  # made in a third of the time that a frozen dataclass takes
    """The claims of a verified token (RFC 9068 section 2.2); instants in seconds since 1970."""

    subject: str
    client_id: str
    username: str | None  # None: a machine's token
    scopes: frozenset[str]
    issuer: str
    audience: tuple[str, ...]
    issued_at: float  # an int, unless the issuer sends fractions
    expires_at: float
    jti: str


class Instant(NamedTuple):
    """An instant on both clocks: the monotonic one stands still in a suspend, the other may be set."""

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
    memo: dict[str, PyJWK] = field(default_factory=dict, repr=False)  # header segment -> key
    expires_at: Instant = field(init=False)  # computed once: every request compares with it

    def __post_init__(self) -> None:
        expires_at = Instant(self.fetched_at, self.fetched_at_wall).later(self.ttl)
        object.__setattr__(self, "expires_at", expires_at)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # two readers could disagree about which one counts
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
        raise ValueError("not canonical")  # or one token could be written in many ways
    return binascii.a2b_base64(segment.replace("-", "+").replace("_", "/") + "==")  # padding enough for any


def _check_url(text: object, *, allow_http: bool) -> httpx2.URL:
    """Parse a URL that may be fetched: https, or http where asked for or on this machine; else ValueError."""
    try:
        url = httpx2.URL(text)  # type: ignore[arg-type]  # a discovered one may be anything
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"not a URL: {text!a:.200}") from error
    fit = url.scheme == "https" or (url.scheme == "http" and (allow_http or url.host in _LOOPBACK))
    if not fit or not url.host or url.userinfo or url.fragment:
        raise ValueError(f"neither an https URL nor http on this machine: {text!a:.200}")
    return url


def _octets(jwk: Mapping[str, Any], name: str) -> bytes:
    """Read a member in base64url without padding (RFC 7515 section 2); PyJWT reads other spellings, too."""
    text = jwk.get(name)
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError(f"{name} is not base64url without padding")
    return _read_base64url(text)


def _check_numbers(jwk: Mapping[str, Any]) -> None:
    """Refuse members that are not written as RFC 7518 section 6 and RFC 8037 section 2 say, with ValueError."""
    if jwk["kty"] == "RSA":
        for name in ("n", "e"):
            if not _octets(jwk, name)[0]:  # Base64urlUInt, RFC 7518 section 2
                raise ValueError(f"{name} does not use the minimum number of octets")
        return
    for name in ("x", "y") if jwk["kty"] == "EC" else ("x",):
        if len(_octets(jwk, name)) != P256_COORDINATE:  # as many as Ed25519 has, RFC 8032 section 5.1.5
            raise ValueError(f"{name} has not {P256_COORDINATE} octets")


def _is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    """Whether `use` and `key_ops`, where present, allow it and agree with each other (RFC 7517 section 4.3)."""
    if jwk.get("use", "sig") != "sig":
        return False
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
        return False
    contradicts = "use" in jwk and not _OTHER_OPS.isdisjoint(operations)
    return "verify" in operations and len(set(operations)) == len(operations) and not contradicts


def import_key(jwk: object, algorithms: Sequence[str]) -> PyJWK:
    """Import a JWK (RFC 7517 section 4) for the first of `algorithms` that fits; raise if it is unusable.

    Members that it does not know are ignored, as that section demands.
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
    """Trust the authorities in `ca_file` alone; without it those of SSL_CERT_FILE, SSL_CERT_DIR or the system."""
    shown = f"the CA file {ca_file!a:.200}" if ca_file else "the file in SSL_CERT_FILE"
    try:
        if ca_file:
            return ssl.create_default_context(cafile=ca_file)
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"{error}"
        raise ValueError(f"{shown} cannot be used: {reason}") from error


def _read_proxy(text: str | None, trusted: ssl.SSLContext) -> httpx2.Proxy | None:
    """Read the URL of a proxy, http or https; ValueError tells no part of it, as it may hold a password."""
    if not text:
        return None
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    fit = url.scheme in {"http", "https"} and url.host and (url.port or 80) in range(1, 65536)
    if not fit or url.path != "/" or url.query or url.fragment:
        raise ValueError("the proxy is not given as http://host:port or https://host:port")
    return httpx2.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)


@dataclass(eq=False, repr=False)
class JwksCache:
    """The issuer's published keys, refreshed ahead of time by one fetch at a time; use it in `async with`.

    Refuses unfit URLs, algorithms and certificate files with ValueError when made, and raises nothing of the
    network's later: a failed fetch is told to `on_event` and tried again, and the old keys stay.
    """

    issuer: str
    _: KW_ONLY
    jwks_url: str | None = None  # None: found by discovery
    algorithms: Sequence[str] = ("RS256",)
    timings: Timings = field(default_factory=Timings)
    allow_http: bool = False
    ca_file: str | None = None  # PEM, the authorities to trust; None: SSL_CERT_FILE, or the system's
    proxy: str | None = None  # a proxy for fetches, not for loopback; those of the environment are never used
    transport: httpx2.AsyncBaseTransport | None = None
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
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
        self._waking: asyncio.Task[None] | None = None  # the fetch that a suspended machine owes
        self._attempted_at = self._next_attempt_at = self._expected_at = Instant(-math.inf, -math.inf)
        self._is_closing = False
        self._failures = self._waiters = 0
        self._refresh_share = _JITTER.uniform(self.timings.refresh_from, self.timings.refresh_to)
        # Made now, because that blocks for a while. No redirects, no netrc, no proxy of the environment: only what
        # is configured is ever asked. No connection is kept: fetches are minutes apart, and one that died
        # unnoticed would cost an attempt. So there is nothing to close at a stop, and another start may follow.
        trusted = _trusted_authorities(self.ca_file)
        self._client = httpx2.AsyncClient(
            transport=self.transport,
            verify=trusted,
            proxy=_read_proxy(self.proxy, trusted),
            # A proxy's loopback is another machine's, and plain http is allowed on our own only.
            mounts={f"all://[{host}]" if ":" in host else f"all://{host}": None for host in _LOOPBACK},
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(self.timings.fetch_deadline, connect=self.timings.connect_timeout),
            limits=httpx2.Limits(max_connections=2, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        self._is_closing = False
        self.refresh()  # not awaited: a start never fails because the issuer is down
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.5)

    def tell(self, event: Event, detail: str) -> None:
        """Call `on_event`; what goes wrong there is logged and disturbs nothing here."""
        try:
            self.on_event(event, detail)
        except (Exception, asyncio.CancelledError):  # a hook is not awaited: nobody cancelled anything here
            with suppress(Exception):  # handlers and filters are the service's own, and may raise, too
                logging.getLogger(__name__).exception("on_event failed")

    def _now(self) -> Instant:
        return Instant(self.monotonic(), self.wall())

    def _since(self, then: Instant) -> float:
        """Seconds since `then` by the clock that says more.

        The monotonic clock stands still while the machine is suspended. The wall clock may be set: back, it extends
        nothing; forward, it makes the keys old too early, which one fetch puts right.
        """
        return max(self.monotonic() - then.monotonic, self.wall() - then.wall)

    @property
    def age(self) -> float:
        """Seconds since the keys were asked for; infinite while there are none."""
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
        """What the snapshot is good for at this moment; derived from its age, never stored."""
        if self._snapshot is None:
            return State.EMPTY
        if self.fresh:
            return State.FRESH
        return State.STALE if self.usable else State.DEAD

    @property
    def overslept(self) -> bool:
        """Whether a fetch is late because this machine was suspended, or one begun for that reason is under way.

        In an outage of the issuer no fetch is late: each failure sets the time of the next one.
        """
        if self._waking is not None and not self._waking.done():
            return True
        return self._snapshot is not None and self._since(self._expected_at) > SLACK

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1."""
        return max(1, math.ceil(max(0, -self._since(self._next_attempt_at))))

    def refresh(self) -> asyncio.Task[None]:
        """Give the fetch under way, shared by all who wait for it, or a new one; the task never raises."""
        if self._task is None or self._task.done():
            self._attempted_at = self._now()
            self._expected_at = self._attempted_at.later(self.timings.fetch_deadline)
            self._task = asyncio.get_running_loop().create_task(self._attempt())
            self._task.add_done_callback(self._plan)  # before anybody waits
        return self._task

    async def refetched(self) -> KeySet:
        """Give the keys after a refetch, if the cooldown allows one; KeysUnavailable if there are none."""
        if self._may_refetch():
            self._waiters += 1
            try:  # `wait` cancels nothing, neither when time is up nor when this caller goes away
                await asyncio.wait({self.refresh()}, timeout=self.timings.wait)
            finally:
                self._waiters -= 1
        else:
            self.tell(Event.REFETCH_SUPPRESSED, self.state)
        keys = self.usable
        if keys is None:
            raise KeysUnavailable(self.retry_after)
        return keys

    def _may_refetch(self) -> bool:
        """Whether the caller may wait for a fetch: for one under way, or for another if the cooldown has passed."""
        if self._waiters >= (MAX_WAITERS if self.usable else MAX_COLD_WAITERS):
            return False
        if self._task is not None and not self._task.done():
            return True
        # Counted from an attempt of any kind. Without usable keys nothing but a fetch helps.
        cooldown = self.timings.cooldown if self.usable else self.timings.cooldown_empty
        least = min(cooldown, self.timings.cooldown_empty)  # whatever the wall clock does
        rested = self.monotonic() - self._attempted_at.monotonic
        return rested >= least and self._since(self._attempted_at) >= cooldown

    async def awaken(self) -> KeySet:
        """Give the keys after the fetch that is late (see `overslept`); KeysUnavailable if there are none."""
        rested = self.monotonic() - self._attempted_at.monotonic
        if (self._waking is None or self._waking.done()) and rested >= self.timings.cooldown_empty:
            self._waking = self.refresh()
        if self._waking is not None:
            await asyncio.wait({self._waking}, timeout=self.timings.wait)
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
                self.tell(Event.KEY_REMOVED if kid in old else Event.KEY_ADDED, kid)
        except Exception as error:  # noqa: BLE001 - whatever the network or a library does, the old keys stay
            self._failures += 1
            self.tell(Event.FETCH_FAILED, f"{type(error).__name__}: {str(error)!a:.200}")

    def _plan(self, attempt: asyncio.Task[None]) -> None:
        """Set the time of the next attempt after each, also after one that a caller cancelled."""
        if self._is_closing:
            return
        self._failures += attempt.cancelled()
        delay = self._snapshot.ttl * self._refresh_share if self._snapshot else 0.0
        if self._failures:
            doubled = self.timings.backoff_first * 2.0 ** min(self._failures - 1, 16)
            delay = min(doubled, self.timings.backoff_last) * _JITTER.uniform(0.5, 1)
        is_late = self._snapshot is not None and not self._failures and not self.fresh
        if is_late:  # the machine was suspended during the fetch: what came is as old as the answer
            delay = min(delay, self.timings.cooldown_empty)
        self._next_attempt_at = self._now().later(delay)
        if not is_late or attempt is self._waking:  # else the next is due now; only one follows so soon
            self._expected_at = self._next_attempt_at
        self._wait_until(asyncio.get_running_loop().time() + delay)

    def _wait_until(self, due: float) -> None:
        """Refresh when the loop's clock says `due`, or soon after the machine wakes from a suspend."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        remaining = due - loop.time()
        if self.overslept:
            self._waking = self.refresh()  # requests wait for it: the keys may have been withdrawn meanwhile
        elif remaining <= 0:
            self.refresh()
        else:
            self._timer = loop.call_later(min(remaining, TICK), self._wait_until, due)

    async def _fetch(self) -> KeySet:
        asked_at, old = self._attempted_at, self._snapshot
        # Where the keys are is found anew after a failure: they may have moved.
        found = old.source if old and not self._failures else None
        url = self.jwks_url or found or await self._discover()
        if old is not None and old.source != url:
            old = None
        body, headers = await self._get(url, old.etag if old else None)
        if old is not None and body is None:
            self.tell(Event.NOT_MODIFIED, url)
            ttl = self._ttl(headers, old.ttl)
            return replace(old, fetched_at=asked_at.monotonic, fetched_at_wall=asked_at.wall, ttl=ttl)
        keys = await self._import_keys(_read_object(body or b"", _KEY_SET).get("keys"))
        self.tell(Event.FETCHED, url)
        etag = headers.get("etag", "")
        ttl = self._ttl(headers, self.timings.ttl_default)
        return KeySet(keys, url, *asked_at, ttl, etag if _ETAG.fullmatch(etag) else None)

    def _ttl(self, headers: httpx2.Headers, default: float) -> float:
        """Take the max-age less the Age told by a cache on the way (RFC 9111 section 4.2), within bounds.

        What should not be cached at all (section 5.2.2) is kept for as short as the bounds allow. Of several ages the
        first counts (section 5.1); one of more digits than are read is old all the same.
        """
        told = headers.get("cache-control", "")
        max_age, age = _MAX_AGE.search(told), _AGE.match(headers.get("age", ""))
        ttl = int(max_age[1]) - (int(age[0]) if age else 0) if max_age else default
        if _UNCACHED.search(told):
            ttl = 0
        return min(max(ttl, self.timings.ttl_floor), self.timings.ttl_ceiling)

    async def _import_keys(self, members: object) -> dict[str, PyJWK]:
        """Import key by key, so that a bad one disturbs no other, and many do not hold the event loop."""
        if not isinstance(members, list):
            raise ValueError("not a key set")  # noqa: TRY004 - the sender's fault, not the caller's
        keys: dict[str, PyJWK | None] = {}
        rank = list(self.algorithms).index
        exposed: set[str] = set()  # kids whose private key anybody can read, however often they are listed
        for position, jwk in enumerate(members[:MAX_KEYS]):
            try:
                if isinstance(jwk, dict) and _PRIVATE_MEMBERS & jwk.keys():
                    exposed.add(str(jwk.get("kid")))
                key, kid = import_key(jwk, self.algorithms), jwk["kid"]
                known = keys.setdefault(kid, key)
                if known is None or known.key != key.key:
                    keys[kid] = None  # which was meant, nobody can tell; the same key twice is no question
                elif rank(key.algorithm_name) < rank(known.algorithm_name):
                    keys[kid] = key  # listed once for each algorithm
            except Exception as error:  # noqa: BLE001 - a hostile JWK may raise anything
                self.tell(Event.KEY_SKIPPED, f"#{position}: {str(error)!a:.200}")
            await asyncio.sleep(0)
        if len(members) > MAX_KEYS:
            self.tell(Event.KEY_SKIPPED, f"all after the first {MAX_KEYS}")
        usable = {kid: key for kid, key in keys.items() if key and kid not in exposed}
        for kid in keys.keys() - usable.keys():
            reason = "its private key is published" if kid in exposed else "different keys of this kid"
            self.tell(Event.KEY_SKIPPED, f"{kid}: {reason}")
        if not usable:
            raise ValueError("no usable key")
        return usable

    async def _discover(self) -> str:
        """Find the `jwks_uri` by RFC 8414 section 3, else by OpenID Connect Discovery section 4."""
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
            raise ValueError("metadata that leads from https to http")
        return str(url)

    async def _get(self, url: str, etag: str | None = None) -> tuple[bytearray | None, httpx2.Headers]:
        """Read the body, None if it is still that of `etag`; measured as it comes."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {"If-None-Match": etag} if etag else {}
        self._client.cookies.clear()  # no answer is remembered but its keys
        async with AsyncExitStack() as stack:

            async def close_at_last(event: str, info: Mapping[str, Any]) -> None:
                if event == "connection.connect_tcp.complete":  # cancelled amid a TLS handshake it stays open
                    stack.push_async_callback(info["return_value"].aclose)

            asking = self._client.stream("GET", url, headers=headers, extensions={"trace": close_at_last})
            response = await stack.enter_async_context(asking)
            if response.status_code == httpx2.codes.NOT_MODIFIED and etag:
                return None, response.headers
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("compressed, though asked not to be")  # a bomb, for all we know
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise ValueError(f"more than {MAX_BODY} bytes")
                await asyncio.sleep(0)  # many tiny chunks that came at once would hold the event loop
            return body, response.headers


@dataclass(eq=False, repr=False)
class TokenVerifier:
    """Turns tokens into AccessTokens by the keys of `cache`; waits only for kids that are unknown."""

    cache: JwksCache
    audience: str
    _: KW_ONLY
    wall: Callable[[], float] = time.time

    async def verify(self, token: str) -> AccessToken:
        """Accept the token, if it is live, of this issuer and for this audience (RFC 9068 section 4).

        Raises InvalidToken, or KeysUnavailable where there are no keys to tell.
        """
        cache, tell = self.cache, self.cache.tell
        try:
            fresh = cache.fresh
            keys = fresh or cache.usable
            verdict = self._judge(token, keys)
            # Only here anything is waited for, or asked of the issuer.
            if verdict is None:
                verdict = self._judge(token, await cache.refetched())
            elif fresh is None and cache.overslept:  # the key may have been withdrawn meanwhile
                verdict = self._judge(token, await cache.awaken())
        except InvalidToken as refusal:
            tell(Event.REJECTED, refusal.reason)
            raise
        except KeysUnavailable:
            tell(Event.UNAVAILABLE, cache.state)
            raise
        except Exception as error:  # a library's surprise is a counted refusal too, never an error of ours
            reason = Reason.MALFORMED if isinstance(error, _MALFORMED) else Reason.UNEXPECTED
            tell(Event.REJECTED, reason)
            raise InvalidToken(reason) from error
        if verdict is None:
            tell(Event.REJECTED, Reason.UNKNOWN_KEY)
            raise InvalidToken(Reason.UNKNOWN_KEY)
        access, kid = verdict
        tell(Event.ACCEPTED, kid)
        if fresh is None and not cache.fresh:
            tell(Event.SERVED_STALE, kid)
        return access

    def _judge(self, token: str, keys: KeySet | None) -> tuple[AccessToken, str] | None:
        """Go from cheap steps to dear ones; None for a token that is fit but for a kid that `keys` lack.

        The kid of the key that verified it comes with the token.
        """
        segments = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if segments is None:
            raise InvalidToken(Reason.MALFORMED)
        header, payload, signature = segments.groups()
        key = keys.memo.get(header) if keys else None
        if keys is None or key is None:
            kid, alg = self._read_header(header)
            key = keys.by_kid.get(kid) if keys else None
            if keys is None or key is None:
                if keys and _ADDRESS.match(kid):
                    raise InvalidToken(Reason.UNKNOWN_KEY)
                self._read_claims(payload)  # first: foreign and expired tokens cause no traffic
                return None
            if key.algorithm_name != alg:
                raise InvalidToken(Reason.UNKNOWN_KEY)
        signed = token[: segments.end(2)].encode()
        if not key.Algorithm.verify(signed, key.key, _read_base64url(signature)):  # checks the length, too
            raise InvalidToken(Reason.SIGNATURE)
        if len(keys.memo) < MAX_MEMO:
            keys.memo[header] = key  # only now: nobody but the issuer fills the memo
        return self._read_claims(payload), str(key.key_id)

    def _read_header(self, segment: str) -> tuple[str, str]:
        """Find the kid and alg of a header that is fit in every other respect (RFC 9068 section 4)."""
        if len(segment) > MAX_HEADER:
            raise InvalidToken(Reason.MALFORMED)
        header = _read_object(_read_base64url(segment))
        kid, alg = header.get("kid"), header.get("alg")
        # Without `typ` an ID token of the same issuer would pass for an access token (RFC 8725 section 3.11).
        typ = str(header.get("typ")).lower().removeprefix("application/")
        fit = alg in self.cache.algorithms and typ == "at+jwt" and not _FORBIDDEN_HEADERS & header.keys()
        if not fit or not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise InvalidToken(Reason.HEADER)
        return kid, str(alg)

    def _read_claims(self, segment: str) -> AccessToken:
        """Accept claims that are whole, of this issuer, for this audience and of this moment."""
        claims = _read_object(_read_base64url(segment))
        try:
            iss, sub, client_id, jti, aud, iat, exp = _required(claims)
            scope, nbf = claims.get("scope", ""), claims.get("nbf", 0)
            audience = tuple(aud) if isinstance(aud, list) else (aud,)
            texts = (iss, sub, client_id, jti, claims.get("username", "-"), *audience)
            text = "".join(texts)
            sane = text.isprintable() or _TEXT.fullmatch(text)  # the first is quick, and nearly always enough
            whole = sane and all(texts) and _SCOPE.fullmatch(scope)
        except (KeyError, TypeError):  # absent, or something else than text
            whole = None
        if not whole:
            raise InvalidToken(Reason.CLAIMS)
        # NumericDate, RFC 7519 section 2: a JSON number, with a fraction or without. Not by isinstance, to which a
        # bool is a number; the set is built only for what is not the usual three integers.
        if (
            not type(iat) is type(exp) is type(nbf) is int
            and not {type(iat), type(exp), type(nbf)} <= _NUMBERS
        ):
            raise InvalidToken(Reason.CLAIMS)
        # Infinity, which 1e999 is read as, is out of range, too.
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
