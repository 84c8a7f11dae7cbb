"""Verifies one issuer's access tokens (RFC 9068) by the keys it publishes, and never blocks the event loop.

What an answer looks like over HTTP is left to `dependencies`. To use it elsewhere, copy this file:

    cache = JwksCache("https://issuer.example")
    verifier = TokenVerifier(cache, audience="https://api.example")
    async with cache:
        token = await verifier.verify(bearer_token)
"""

import asyncio
import base64
import ipaddress
import json
import logging
import math
import random
import re
import string
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn, Self

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm

MAX_TOKEN = 8 * 1024  # characters; parsing 200 KB of junk would hold the event loop for 20 ms
MAX_BODY = 64 * 1024  # bytes of a fetched document
MAX_KEYS = 64
MAX_MEMO = 64  # header segments remembered with a snapshot
MAX_WAITERS = 64  # requests parked behind an unknown kid: attackers can make up any number of kids
MAX_COLD_WAITERS = 4096  # the same while there are no keys, when nobody can be told from anybody
RSA_BITS = range(2048, 8192 + 1)
RSA_EXPONENT = 65537
LAST_INSTANT = 253_402_300_799  # the end of the year 9999; later ones break calendars

_TOKEN = re.compile(r"([\w-]{1,1366})\.([\w-]+)\.([\w-]+)", re.ASCII)  # 1366: a header of 1 KiB
_KID = re.compile(r"[A-Za-z0-9._~:+/=@-]{1,256}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # what JSON and logs carry without harm
_SCOPE = re.compile(r"(?:[!\x23-\x5b\x5d-~]+(?: [!\x23-\x5b\x5d-~]+)*)?")  # RFC 6749 section 3.3
_ETAG = re.compile(r'(?:W/)?"[!\x23-~]{0,256}"')
_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?([0-9]{1,12})"?(?=[\s,]|$)', re.IGNORECASE)
_AGE = re.compile(r"[0-9]{1,12}")
_LAST_CHARACTERS = (string.ascii_letters + string.digits + "-_", "", "AQgw", "AEIMQUYcgkosw048")
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# With each of these a token would choose its own key, form or meaning (RFC 7515 section 4.1, RFC 8725).
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"})
_KEY_MEMBERS = {  # alg -> kty, crv and the members that make the key (RFC 7518 section 6, RFC 8037)
    "RS256": ("RSA", None, ("kty", "n", "e")),
    "PS256": ("RSA", None, ("kty", "n", "e")),
    "ES256": ("EC", "P-256", ("kty", "crv", "x", "y")),
    "EdDSA": ("OKP", "Ed25519", ("kty", "crv", "x")),
}
_JITTER = random.SystemRandom()


class State(StrEnum):
    """What the age of the snapshot allows."""

    EMPTY = "empty"
    FRESH = "fresh"
    STALE = "stale"
    DEAD = "dead"


_UNUSABLE = (State.EMPTY, State.DEAD)


class Event(StrEnum):
    """What `on_event` is told, with a line of detail that never holds a token."""

    FETCHED = "fetched"
    NOT_MODIFIED = "not_modified"
    FETCH_FAILED = "fetch_failed"
    REFETCH_SUPPRESSED = "refetch_suppressed"
    KEY_ADDED = "key_added"
    KEY_REMOVED = "key_removed"
    KEY_SKIPPED = "key_skipped"
    REJECTED = "rejected"
    SERVED_STALE = "served_stale"


class Reason(StrEnum):
    """Why a token was refused: for `on_event`; callers are told of EXPIRED alone."""

    MALFORMED = "malformed"
    HEADER = "header"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    UNEXPECTED = "unexpected"


class InvalidToken(Exception):
    """The token is not, or no longer, a live token of this issuer for this service."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class KeysUnavailable(Exception):
    """There are no keys to judge by; another try is worth while after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no keys, try again in {retry_after} s")
        self.retry_after = retry_after


class FetchFailed(Exception):
    """A document could not be had; the text says why."""


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


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The claims of a verified token (RFC 9068 section 2.2); instants in seconds since 1970."""

    subject: str
    client_id: str
    username: str | None  # None: a machine's token
    scopes: frozenset[str]
    issuer: str
    audience: tuple[str, ...]
    issued_at: int
    expires_at: int
    jti: str


class Key(NamedTuple):
    """A usable public key, bound to the one algorithm it verifies."""

    kid: str
    alg: str
    algorithm: Algorithm
    public: Any
    signature_bytes: int


@dataclass(frozen=True, slots=True)
class KeySet:
    """A snapshot of the published keys, only ever replaced as a whole."""

    by_kid: Mapping[str, Key]
    source: str
    fetched_at: float  # monotonic, when it was asked for
    ttl: float
    etag: str | None
    memo: dict[str, Key] = field(default_factory=dict, repr=False)  # header segment -> key


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # two readers could disagree about which one counts
        raise ValueError("duplicate member")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
_MALFORMED = (ValueError, TypeError, RecursionError)  # what reading raises


def _read_object(raw: bytes | bytearray) -> dict[str, Any]:
    document = _JSON.decode(raw.decode())
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return document


def _read_base64url(segment: str) -> bytes:
    if segment[-1] not in _LAST_CHARACTERS[len(segment) % 4]:
        raise ValueError("not canonical")  # or one token could be written in many ways
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _text(value: object) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise InvalidToken(Reason.CLAIMS)
    return value


def _instant(value: object) -> int:
    # Exactly an int: a bool is one to isinstance, and a string or a float is one to lenient readers.
    if type(value) is not int or not 0 <= value <= LAST_INSTANT:
        raise InvalidToken(Reason.CLAIMS)
    return value


def import_key(jwk: object, algorithms: Collection[str]) -> Key:
    """Import a JWK (RFC 7517 section 4) for the first of `algorithms` that fits; raise if it is unusable."""
    if not isinstance(jwk, dict):
        raise TypeError("not an object")
    if _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("has private members")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        raise ValueError("not for signatures")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise ValueError("no usable kid")
    kind = jwk.get("kty"), jwk.get("crv")
    alg = next((a for a in algorithms if _KEY_MEMBERS[a][:2] == kind and jwk.get("alg", a) == a), None)
    if alg is None:
        raise ValueError("for another algorithm")
    members = {name: jwk[name] for name in _KEY_MEMBERS[alg][2]}
    if any(len(value) > RSA_BITS.stop // 6 + 2 for value in members.values()):
        raise ValueError("too large")
    algorithm = jwt.get_algorithm_by_name(alg)
    public = algorithm.from_jwk(members)
    if not isinstance(public, RSAPublicKey):
        return Key(kid, alg, algorithm, public, signature_bytes=64)
    if public.key_size not in RSA_BITS or public.public_numbers().e != RSA_EXPONENT:
        raise ValueError("a weak or oversized RSA key")
    return Key(kid, alg, algorithm, public, signature_bytes=(public.key_size + 7) // 8)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _check_url(text: object, *, allow_http: bool) -> httpx2.URL:
    """Parse a URL that may be fetched: https, or http where asked for or on this machine; else ValueError."""
    try:
        url = httpx2.URL(text)  # type: ignore[arg-type]  # a discovered one may be anything
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"not a URL: {text!a:.200}") from error
    fit = url.scheme == "https" or (url.scheme == "http" and (allow_http or _is_loopback(url.host)))
    if not fit or not url.host or url.userinfo or url.fragment:
        raise ValueError(f"neither an https URL nor http on this machine: {text!a:.200}")
    return url


def _ignore(_event: Event, _detail: str) -> None:
    pass


class JwksCache:
    """The issuer's published keys, refreshed ahead of time by one fetch at a time; use it in `async with`.

    Refuses unfit URLs and algorithms with ValueError when made, and raises nothing of the network's later: a
    failed fetch is told to `on_event` and tried again, and the old keys stay.
    """

    def __init__(
        self,
        issuer: str,
        *,
        jwks_url: str | None = None,
        algorithms: Collection[str] = ("RS256",),
        timings: Timings | None = None,
        allow_http: bool = False,
        transport: httpx2.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        on_event: Callable[[Event, str], None] = _ignore,
    ) -> None:
        for url in (issuer, jwks_url):
            if url is not None:
                _check_url(url, allow_http=allow_http)
        self.issuer = issuer
        if not algorithms or not _KEY_MEMBERS.keys() >= set(algorithms):
            raise ValueError(f"algorithms must be among {', '.join(_KEY_MEMBERS)}")
        self.algorithms = tuple(algorithms)
        self.timings = timings or Timings()
        self._on_event = on_event
        self._jwks_url = self._configured_url = jwks_url
        self._allow_http = allow_http
        self._monotonic = monotonic
        self._transport = transport
        self._client = self._new_client()  # now, because making one blocks for a while
        self._snapshot: KeySet | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attempted_at = self._next_attempt_at = -math.inf
        self._failures = 0
        self._waiters = 0
        self._refresh_share = _JITTER.uniform(self.timings.refresh_from, self.timings.refresh_to)

    async def __aenter__(self) -> Self:
        if self._client.is_closed:
            self._client = self._new_client()
        self.refresh()  # not awaited: a start never fails because the issuer is down
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.5)
        await self._client.aclose()

    def tell(self, event: Event, detail: str) -> None:
        """Call `on_event`; what goes wrong there is logged and disturbs nothing here."""
        try:
            self._on_event(event, detail)
        except Exception:
            logging.getLogger(__name__).exception("on_event failed")

    @property
    def state(self) -> State:
        """What the snapshot is good for at this moment; derived from its age, never stored."""
        if self._snapshot is None:
            return State.EMPTY
        over = self._monotonic() - self._snapshot.fetched_at - self._snapshot.ttl
        if over <= 0:
            return State.FRESH
        return State.STALE if over <= self.timings.max_stale else State.DEAD

    @property
    def usable(self) -> KeySet | None:
        """The snapshot while it is FRESH or STALE."""
        return None if self.state in _UNUSABLE else self._snapshot

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1."""
        return max(1, math.ceil(max(0, self._next_attempt_at - self._monotonic())))

    def refresh(self) -> asyncio.Task[None]:
        """Give the fetch under way, shared by all who wait for it, or a new one; the task never raises."""
        if self._task is None or self._task.done():
            self._attempted_at = self._monotonic()
            self._task = asyncio.get_running_loop().create_task(self._attempt())
        return self._task

    async def refetched(self) -> KeySet:
        """Give the keys after a refetch, if the cooldown allows one; KeysUnavailable if there are none."""
        under_way = self._task is not None and not self._task.done()
        cooldown = self.timings.cooldown if self._snapshot else self.timings.cooldown_empty
        rested = self._monotonic() - self._attempted_at >= cooldown  # since an attempt of any kind
        if (under_way or rested) and self._waiters < (MAX_WAITERS if self.usable else MAX_COLD_WAITERS):
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
            self._jwks_url = self._configured_url  # discovered anew next time: it may have moved
            self.tell(Event.FETCH_FAILED, f"{type(error).__name__}: {str(error)!a:.200}")
        # The refresh loop: each attempt, whoever asked for it, sets the time of the next.
        delay = self._snapshot.ttl * self._refresh_share if self._snapshot else 0.0
        if self._failures:
            doubled = self.timings.backoff_first * 2.0 ** min(self._failures - 1, 16)
            delay = min(doubled, self.timings.backoff_last) * _JITTER.uniform(0.5, 1)
        self._next_attempt_at = self._monotonic() + delay
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.refresh)

    async def _fetch(self) -> KeySet:
        asked_at = self._attempted_at
        if self._jwks_url is None:
            self._jwks_url = await self._discover()
        url, old = self._jwks_url, self._snapshot
        if old is not None and old.source != url:
            old = None
        body, headers = await self._get(url, old.etag if old else None)
        if old is not None and body is None:
            self.tell(Event.NOT_MODIFIED, url)
            return replace(old, fetched_at=asked_at, ttl=self._ttl(headers, old.ttl))
        keys = self._import_keys(_read_object(body or b"").get("keys"))
        self.tell(Event.FETCHED, url)
        etag = headers.get("etag", "")
        ttl = self._ttl(headers, self.timings.ttl_default)
        return KeySet(keys, url, asked_at, ttl, etag if _ETAG.fullmatch(etag) else None)

    def _ttl(self, headers: httpx2.Headers, default: float) -> float:
        """Take the max-age less the Age told by a cache on the way (RFC 9111 section 4.2), within bounds."""
        max_age = _MAX_AGE.search(headers.get("cache-control", ""))
        age = _AGE.fullmatch(headers.get("age", ""))
        ttl = int(max_age[1]) - (int(age[0]) if age else 0) if max_age else default
        return min(max(ttl, self.timings.ttl_floor), self.timings.ttl_ceiling)

    def _import_keys(self, members: object) -> dict[str, Key]:
        """Import key by key, so that a bad one disturbs no other."""
        if not isinstance(members, list) or len(members) > MAX_KEYS:
            raise FetchFailed(f"not a key set of at most {MAX_KEYS} keys")
        keys = []
        for position, jwk in enumerate(members):
            try:
                keys.append(import_key(jwk, self.algorithms))
            except Exception as error:  # noqa: BLE001 - a hostile JWK may raise anything
                self.tell(Event.KEY_SKIPPED, f"#{position}: {str(error)!a:.200}")
        count = Counter(key.kid for key in keys)
        for kid in (kid for kid in count if count[kid] > 1):  # which of them was meant, nobody can tell
            self.tell(Event.KEY_SKIPPED, f"{kid}: {count[kid]} keys of this kid")
        usable = {key.kid: key for key in keys if count[key.kid] == 1}
        if not usable:
            raise FetchFailed("no usable key")
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
            except (FetchFailed, httpx2.HTTPError, *_MALFORMED) as error:
                failures.append(f"{place}: {error}")
        raise FetchFailed("; ".join(failures))

    async def _read_metadata(self, location: httpx2.URL) -> str:
        body, _ = await self._get(str(location))
        document = _read_object(body or b"")
        if document.get("issuer") != self.issuer:  # RFC 8414 section 3.3
            raise FetchFailed("the metadata of another issuer")
        url = _check_url(document.get("jwks_uri"), allow_http=self._allow_http)
        if location.scheme == "https" != url.scheme:
            raise FetchFailed("metadata that leads from https to http")
        return str(url)

    def _new_client(self) -> httpx2.AsyncClient:
        # Neither redirects nor proxies nor netrc: only what is configured is ever asked. No connection is
        # kept: fetches are minutes apart, and one that died unnoticed would cost an attempt.
        return httpx2.AsyncClient(
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(self.timings.fetch_deadline, connect=self.timings.connect_timeout),
            limits=httpx2.Limits(max_connections=2, max_keepalive_connections=0),
        )

    async def _get(self, url: str, etag: str | None = None) -> tuple[bytearray | None, httpx2.Headers]:
        """Read the body, None if it is still that of `etag`; measured as it comes."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if etag is not None:
            headers["If-None-Match"] = etag
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx2.codes.NOT_MODIFIED and etag is not None:
                return None, response.headers
            if response.status_code != httpx2.codes.OK:
                raise FetchFailed(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed("compressed, though asked not to be")  # a bomb, for all we know
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise FetchFailed(f"more than {MAX_BODY} bytes")
            return body, response.headers


class TokenVerifier:
    """Turns tokens into AccessTokens by the keys of `cache`; waits only for kids that are unknown."""

    def __init__(self, cache: JwksCache, audience: str, *, wall: Callable[[], float] = time.time) -> None:
        self.cache = cache
        self._audience = audience
        self._wall = wall

    async def verify(self, token: str) -> AccessToken:
        """Accept the token, if it is live, of this issuer and for this audience (RFC 9068 section 4).

        Raises InvalidToken, or KeysUnavailable where there are no keys to tell.
        """
        try:
            return await self._verify(token)
        except InvalidToken as refusal:
            self.cache.tell(Event.REJECTED, refusal.reason)
            raise
        except KeysUnavailable:
            raise
        except Exception as error:  # a library's surprise is a counted refusal too, never an error of ours
            reason = Reason.MALFORMED if isinstance(error, _MALFORMED) else Reason.UNEXPECTED
            self.cache.tell(Event.REJECTED, reason)
            raise InvalidToken(reason) from error

    async def _verify(self, token: str) -> AccessToken:
        """Go from cheap steps to dear ones, and ask the issuer for nothing before iss, aud and exp fit."""
        segments = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if segments is None:
            raise InvalidToken(Reason.MALFORMED)
        header, payload, signature = segments.groups()
        keys = self.cache.usable
        key = keys.memo.get(header) if keys else None
        if keys is None or key is None:
            kid, alg = self._read_header(header)
            if keys is None or kid not in keys.by_kid:
                self._read_claims(payload)
                keys = await self.cache.refetched()
            key = keys.by_kid.get(kid)
            if key is None or key.alg != alg:
                raise InvalidToken(Reason.UNKNOWN_KEY)
        signed = token[: segments.end(2)].encode()
        raw = _read_base64url(signature)
        if len(raw) != key.signature_bytes or not key.algorithm.verify(signed, key.public, raw):
            raise InvalidToken(Reason.SIGNATURE)
        if len(keys.memo) < MAX_MEMO:
            keys.memo[header] = key  # only now: nobody but the issuer fills the memo
        access = self._read_claims(payload)
        if self.cache.state is State.STALE:
            self.cache.tell(Event.SERVED_STALE, key.kid)
        return access

    def _read_header(self, segment: str) -> tuple[str, str]:
        """Find the kid and alg of a header that is fit in every other respect (RFC 9068 section 4)."""
        header = _read_object(_read_base64url(segment))
        kid, alg, typ = header.get("kid"), header.get("alg"), header.get("typ")
        if _FORBIDDEN_HEADERS & header.keys() or alg not in self.cache.algorithms:
            raise InvalidToken(Reason.HEADER)
        # Or an ID token of the same issuer would pass for an access token (RFC 8725 section 3.11).
        if not isinstance(typ, str) or typ.lower().removeprefix("application/") != "at+jwt":
            raise InvalidToken(Reason.HEADER)
        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise InvalidToken(Reason.HEADER)
        return kid, alg

    def _read_claims(self, segment: str) -> AccessToken:
        """Accept claims that are whole, of this issuer, for this audience and of this moment."""
        claims = _read_object(_read_base64url(segment))
        audience = claims.get("aud")
        audience = audience if isinstance(audience, list) else [audience]
        scope = claims.get("scope", "")
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise InvalidToken(Reason.CLAIMS)
        access = AccessToken(
            subject=_text(claims.get("sub")),
            client_id=_text(claims.get("client_id")),
            username=_text(claims["username"]) if "username" in claims else None,
            scopes=frozenset(scope.split()),
            issuer=_text(claims.get("iss")),
            audience=tuple(map(_text, audience)),
            issued_at=_instant(claims.get("iat")),
            expires_at=_instant(claims.get("exp")),
            jti=_text(claims.get("jti")),
        )
        not_before = max(access.issued_at, _instant(claims.get("nbf", 0)))
        now, leeway = self._wall(), self.cache.timings.leeway
        if access.issuer != self.cache.issuer:
            raise InvalidToken(Reason.ISSUER)
        if self._audience not in access.audience:
            raise InvalidToken(Reason.AUDIENCE)
        if not_before > now + leeway:
            raise InvalidToken(Reason.NOT_YET_VALID)
        if access.expires_at <= now - leeway:
            raise InvalidToken(Reason.EXPIRED)
        return access
