"""The public keys of clients that authenticate by assertion: registered, or fetched from their `jwks_uri`.

Assertions are verified by `assertion`.
"""

import json
import ssl
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from threading import BoundedSemaphore, Lock
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from issuer.clients.client import Client
from issuer.clients.document_fetch import DocumentFetcher
from issuer.clients.outgoing_http import EXCHANGE_SECONDS
from issuer.jose import MALFORMED, PRIVATE_MEMBERS, is_canonical, is_for_verifying
from issuer.oauth import Unavailable
from issuer.strict_json import read_document

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
KEYS_MOST = 100
"""Usable keys of one set, beyond which they are ignored; members for other purposes do not count."""
RSA_BITS = range(2048, 8193)
FETCHES_AT_ONCE = 4
WAITING_MOST = 8
"""Requests that wait for a fetch; each holds one of the 40 threads that answer everything else, too."""
FRESH = timedelta(minutes=5)
"""How long a fetched document is used before it is fetched again."""
STALE = timedelta(hours=1)
"""How long it is used if it cannot be fetched again."""
COOLDOWN = timedelta(seconds=30)
"""The least time between two fetches, after an unknown kid or a failure."""

log = structlog.get_logger("issuer.clients")

CryptoPublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class BadKeySet(ValueError):
    """A JWKS has no usable key; the message says why."""


@dataclass(frozen=True)
class ClientKey:
    """One usable public key, RFC 7517."""

    key: CryptoPublicKey
    kid: str | None
    alg: str | None

    def suits(self, alg: str, kid: str | None) -> bool:
        """Whether an assertion with such a header may be signed by it."""
        if (self.alg or alg) != alg or (kid is not None and self.kid is not None and kid != self.kid):
            return False
        match self.key:
            case RSAPublicKey():
                return alg in {"RS256", "PS256"}
            case EllipticCurvePublicKey():
                return alg == "ES256"
        return alg == "EdDSA"


def read_key_set(document: object) -> list[ClientKey]:
    """Return the usable keys of a JWKS and skip all others; raise BadKeySet if there is none."""
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise BadKeySet("it is not a JWKS: it needs a member `keys` that is a list")
    if any(isinstance(each, dict) and PRIVATE_MEMBERS & each.keys() for each in keys):
        raise BadKeySet("it holds a private or secret key: give public keys only")
    usable = (key for each in keys if (key := _read(each)) is not None)
    found = list(islice(usable, KEYS_MOST))
    if not found:
        raise BadKeySet(f"none of its keys is for {', '.join(ALGORITHMS)} (RSA of 2048 to 8192 bits, P-256)")
    return found


def _read(jwk: Any) -> ClientKey | None:
    if not isinstance(jwk, dict) or not is_for_verifying(jwk) or not is_canonical(jwk):
        return None
    try:
        key = jwt.PyJWK(jwk).key
    except MALFORMED:
        return None
    match key:
        case RSAPublicKey():
            sound = key.key_size in RSA_BITS and key.public_numbers().e == 65537  # noqa: PLR2004 - F4
        case EllipticCurvePublicKey():
            sound = isinstance(key.curve, SECP256R1)
        case _:
            sound = isinstance(key, Ed25519PublicKey)
    alg, kid = jwk.get("alg"), jwk.get("kid")
    is_named = kid is None or isinstance(kid, str)
    if not sound or not is_named or (alg is not None and alg not in ALGORITHMS):
        return None
    return ClientKey(key, kid, alg)


def _registered(jwks: str | None) -> list[ClientKey]:
    try:
        return read_key_set(json.loads(jwks or "{}"))
    except BadKeySet:  # it was good when it was registered; what is usable is decided by this version
        return []


@dataclass
class _Held:
    """The state of one URL."""

    keys: list[ClientKey] = field(default_factory=list)
    fetched_at: datetime | None = None
    asked_at: datetime | None = None
    fetch: Future[None] | None = None
    lock: Lock = field(default_factory=Lock)
    """Never held during a wait."""

    def set_back(self, now: datetime) -> None:
        """Set instants after `now` back to it: a clock that was set back must not prolong them."""
        self.fetched_at = self.fetched_at and min(self.fetched_at, now)
        self.asked_at = self.asked_at and min(self.asked_at, now)


class ClientKeys:
    """Finds the keys of a client; fetches documents, one at a time for each URL, and caches them."""

    def __init__(self, authorities: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._documents = DocumentFetcher(authorities, proxy)
        self._held: dict[str, _Held] = {}
        self._fetches = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="client keys")
        self._waiting = BoundedSemaphore(WAITING_MOST)

    def keys(self, client: Client, kid: str | None, now: datetime) -> Iterable[ClientKey]:
        """Return the keys of `client`, fetched again if none has the `kid`; no keys if they cannot be fetched.

        Raise Unavailable when too many requests wait for fetches.
        """
        if client.jwks_uri is None:
            return _registered(client.jwks)
        held = self._held.setdefault(client.jwks_uri, _Held())
        with held.lock:
            held.set_back(now)
            known = kid is None or any(key.kid in {None, kid} for key in held.keys)
            fresh = held.fetched_at is not None and now - held.fetched_at < FRESH
            cooling = held.asked_at is not None and now - held.asked_at < COOLDOWN
            if not (fresh and known) and not cooling and (held.fetch is None or held.fetch.done()):
                held.fetch = self._fetches.submit(self._fetch, client.jwks_uri, held, now)
                held.asked_at = now  # not if there is no thread for it: the next request tries again
            fetch = held.fetch
        if fetch and not fetch.done() and not (fresh and known):
            self._wait(fetch)
        if held.fetched_at is None or now - held.fetched_at > STALE:
            return []
        return held.keys

    def close(self) -> None:
        """End the threads."""
        self._fetches.shutdown(wait=False, cancel_futures=True)

    def _wait(self, fetch: Future[None]) -> None:
        if not self._waiting.acquire(blocking=False):
            raise Unavailable("the keys of clients are being fetched; try again later", timedelta(seconds=2))
        try:
            wait([fetch], EXCHANGE_SECONDS + 1)
        finally:
            self._waiting.release()

    def _fetch(self, url: str, held: _Held, now: datetime) -> None:
        try:
            held.keys, held.fetched_at = read_key_set(read_document(self._documents.fetch(url))), now
        except Exception as error:  # noqa: BLE001 - whatever it is, waiting requests continue without these keys
            log.warning(
                "cannot fetch the keys of a client", url=url, reason=str(error) or type(error).__name__
            )
