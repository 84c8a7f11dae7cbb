"""Verifiers of three kinds that know the key set by URL only: they accept all valid tokens and no others.

The documents come through the front; what the nodes serve is judged in `watch`.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import jwt

from jwks_verifier import InvalidToken, JwksCache, KeysUnavailable, Timings, TokenVerifier
from soak.findings import Findings, Token
from soak.network import LoadBalancer
from soak.rules import Rules

ALGORITHMS = ["RS256"]
ROUND_SECONDS = 0.8
FETCH_SECONDS = 3.0
COOLDOWN_SHARE = 0.1
"""The cooldown for refetches for an unknown kid as a share of max-age, as in production."""


class Refused(Exception):
    """The verifier rejects the token."""


class NoKeys(Exception):
    """The verifier has no keys, and reports that."""


class Verifier(ABC):
    """A verifier."""

    kind: str

    def __init__(self, url: str, audience: str, rules: Rules) -> None:
        self.url = url
        self.jwks_url = f"{url}/.well-known/jwks.json"
        self.audience = audience
        self.rules = rules

    async def open(self, stack: AsyncExitStack) -> None:  # noqa: B027 - not every kind needs a start
        """Start it; it stops with `stack`."""

    @abstractmethod
    async def verify(self, token: str) -> None:
        """Verify `token`; raise Refused or NoKeys."""

    @abstractmethod
    def kids(self) -> list[str]:
        """Return the kids in its cached document."""

    @abstractmethod
    def age(self) -> float:
        """Return the age of its cached document in seconds."""

    def decode(self, token: str, key: jwt.PyJWK) -> None:
        """Verify `token` with `key` by PyJWT."""
        jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self.audience,
            issuer=self.url,
            leeway=self.rules.clock_skew,
        )


class Example(Verifier):
    """The example's verifier: it uses discovery, refreshes in advance, and keeps stale keys during an outage."""

    kind = "jwks-verifier"
    listens = False

    async def open(self, stack: AsyncExitStack) -> None:
        cooldown = COOLDOWN_SHARE * self.rules.max_age
        timings = Timings(ttl_floor=cooldown, cooldown=cooldown, backoff_last=1, leeway=self.rules.clock_skew)
        self._cache = JwksCache(self.url, timings=timings, listen=self.listens)
        await stack.enter_async_context(self._cache)
        self._verifier = TokenVerifier(self._cache, self.audience)

    async def verify(self, token: str) -> None:
        try:
            await self._verifier.verify(token)
        except InvalidToken as rejection:
            raise Refused(rejection.reason) from rejection
        except KeysUnavailable as error:
            raise NoKeys from error

    def kids(self) -> list[str]:
        return list(self._cache.usable.by_kid) if self._cache.usable else []

    def age(self) -> float:
        return (
            time.monotonic() - self._cache.usable.fetched_at.monotonic if self._cache.usable else float("inf")
        )


class Listening(Example):
    """The same, and it listens for changes of the keys, beside its refreshes."""

    kind = "jwks-verifier, listening"
    listens = True


class PyJwt(Verifier):
    """PyJWT's own client, which blocks and ignores max-age, so that its lifespan is set instead."""

    kind = "PyJWKClient"

    def __init__(self, url: str, audience: str, rules: Rules) -> None:
        super().__init__(url, audience, rules)
        self._client = jwt.PyJWKClient(
            self.jwks_url,
            lifespan=rules.max_age,
            timeout=FETCH_SECONDS,
            cooldown_duration=COOLDOWN_SHARE * rules.max_age,
        )

    async def verify(self, token: str) -> None:
        await asyncio.to_thread(self._verify, token)

    def kids(self) -> list[str]:
        held = self._client.jwk_set_cache and self._client.jwk_set_cache.get()
        return [str(key.key_id) for key in held.keys] if held else []

    def age(self) -> float:
        held = self._client.jwk_set_cache and self._client.jwk_set_cache.jwk_set_with_timestamp
        return time.monotonic() - held.get_timestamp() if held else float("inf")

    def _verify(self, token: str) -> None:
        try:
            self.decode(token, self._client.get_signing_key_from_jwt(token))
        except (jwt.PyJWKClientConnectionError, OSError) as error:
            raise NoKeys from error
        except jwt.PyJWTError as rejection:
            raise Refused(f"{type(rejection).__name__}: {rejection}") from rejection


class Strict(Verifier):
    """Caches a document for exactly its max-age, whatever kids are presented."""

    kind = "strict"

    async def open(self, stack: AsyncExitStack) -> None:
        self._http = await stack.enter_async_context(
            httpx2.AsyncClient(trust_env=False, timeout=FETCH_SECONDS)
        )
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._until = float("-inf")

    async def verify(self, token: str) -> None:
        if time.monotonic() >= self._until:
            await self._fetch()
        key = self._keys.get(jwt.get_unverified_header(token)["kid"])
        if key is None:
            raise Refused("unknown kid")
        try:
            self.decode(token, key)
        except jwt.PyJWTError as rejection:
            raise Refused(f"{type(rejection).__name__}: {rejection}") from rejection

    def kids(self) -> list[str]:
        return list(self._keys)

    def age(self) -> float:
        return time.monotonic() - self._asked_at

    async def _fetch(self) -> None:
        self._asked_at, self._keys = time.monotonic(), {}
        try:
            answer = (await self._http.get(self.jwks_url)).raise_for_status()
        except httpx2.HTTPError as error:
            raise NoKeys from error
        self._keys = {str(key.key_id): key for key in jwt.PyJWKSet.from_dict(answer.json()).keys}
        max_age = answer.headers["Cache-Control"].removeprefix("public, max-age=")
        self._until = self._asked_at + int(max_age)


async def check(verifier: Verifier, front: LoadBalancer, findings: Findings, over: asyncio.Event) -> None:
    """Verify every unexpired token repeatedly, and some invalid ones."""
    while not over.is_set():
        findings.counts["waits granted"] = front.granted
        for token in findings.unexpired():
            try:
                await verifier.verify(token.text)
            except NoKeys:
                findings.count(f"no keys: {verifier.kind}")
                break  # it would have none for the others, either
            except Refused as rejection:
                _check_rejection(verifier, token, rejection, front, findings)
            else:
                findings.continued(f"verified: {verifier.kind}")
        await _check_invalid_tokens(verifier, findings)
        await asyncio.sleep(ROUND_SECONDS)


async def _check_invalid_tokens(verifier: Verifier, findings: Findings) -> None:
    for fault, token in findings.invalid_tokens(verifier.rules.clock_skew, verifier.kids()).items():
        try:
            await verifier.verify(token)
        except NoKeys:
            return
        except Refused as rejection:
            findings.refused(fault, verifier.kind, str(rejection))
        else:
            findings.violation(f"a token that is {fault} is refused", verifier=verifier.kind, token=token)


def _check_rejection(
    verifier: Verifier, token: Token, rejection: Refused, front: LoadBalancer, findings: Findings
) -> None:
    now = time.time()
    if token.expires_at <= now:
        findings.count(f"expired meanwhile: {verifier.kind}")
        return
    unreachable = now - front.failed_at <= verifier.rules.max_age + FETCH_SECONDS
    if unreachable and not isinstance(verifier, Strict):
        # It could not fetch from any node, and used an old document.
        findings.count(f"refused while no node served: {verifier.kind}")
        return
    findings.refused("VALID", verifier.kind, str(rejection))
    facts: dict[str, Any] = {
        "token": findings.described(token),
        "rejection": rejection,
        "kids held": [kid[:8] for kid in verifier.kids()],
        "document of": findings.since_start(now - verifier.age()),
        "front": [(findings.since_start(at), node, status) for at, node, status in front.answers],
    }
    findings.violation(f"a valid token was refused by {verifier.kind}", **facts)
