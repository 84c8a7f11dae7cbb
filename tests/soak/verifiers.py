"""Verifiers of three kinds, each knowing the key set by URL only, which refuse no good token and take no bad one.

The documents come through the front; what the nodes serve is judged in `watch`.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import jwt

from soak.findings import Findings, Token
from soak.network import Front
from soak.rules import Rules
from verifier_example.verifier import InvalidToken, JwksCache, KeysUnavailable, Timings, TokenVerifier

ALGORITHMS = ["RS256"]
ROUND_SECONDS = 0.8
FETCH_SECONDS = 3.0
ATTENTIVE = 0.1
"""Share of max-age for which a verifier that refetches for an unknown kid holds back, as in production."""


class Refused(Exception):
    """The verifier says that the token is not good."""


class NoKeys(Exception):
    """The verifier has no keys to tell by, and says so."""


class Verifier(ABC):
    """One verifier."""

    kind: str

    def __init__(self, url: str, audience: str, rules: Rules) -> None:
        self.url = url
        self.jwks_url = f"{url}/.well-known/jwks.json"
        self.audience = audience
        self.rules = rules

    async def open(self, stack: AsyncExitStack) -> None:  # noqa: B027 - not every kind has something to start
        """Start it, to end with `stack`."""

    @abstractmethod
    async def verify(self, token: str) -> None:
        """Accept `token`; raise Refused, or NoKeys."""

    @abstractmethod
    def kids(self) -> list[str]:
        """Return the kids of the document that it holds."""

    @abstractmethod
    def age(self) -> float:
        """Return the age of that document in seconds."""

    def decode(self, token: str, key: jwt.PyJWK) -> None:
        """Accept `token` by `key` as PyJWT does."""
        jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self.audience,
            issuer=self.url,
            leeway=self.rules.clock_skew,
        )


class Example(Verifier):
    """The example's verifier: found by discovery, refreshed ahead of time, stale keys rather than none."""

    kind = "verifier.py"

    async def open(self, stack: AsyncExitStack) -> None:
        held_back = ATTENTIVE * self.rules.max_age
        timings = Timings(
            ttl_floor=held_back, cooldown=held_back, backoff_last=1, leeway=self.rules.clock_skew
        )
        self._cache = JwksCache(self.url, timings=timings)
        await stack.enter_async_context(self._cache)
        self._verifier = TokenVerifier(self._cache, self.audience)

    async def verify(self, token: str) -> None:
        try:
            await self._verifier.verify(token)
        except InvalidToken as refusal:
            raise Refused(refusal.reason) from refusal
        except KeysUnavailable as error:
            raise NoKeys from error

    def kids(self) -> list[str]:
        return list(self._cache.usable.by_kid) if self._cache.usable else []

    def age(self) -> float:
        return time.monotonic() - self._cache.usable.fetched_at if self._cache.usable else float("inf")


class PyJwt(Verifier):
    """PyJWT's own client, which blocks and knows no max-age: it is told one."""

    kind = "PyJWKClient"

    def __init__(self, url: str, audience: str, rules: Rules) -> None:
        super().__init__(url, audience, rules)
        self._client = jwt.PyJWKClient(
            self.jwks_url,
            lifespan=rules.max_age,
            timeout=FETCH_SECONDS,
            cooldown_duration=ATTENTIVE * rules.max_age,
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
        except jwt.PyJWTError as refusal:
            raise Refused(f"{type(refusal).__name__}: {refusal}") from refusal


class Strict(Verifier):
    """Holds a document for exactly its max-age: not longer, and never less, whatever kids come by."""

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
        except jwt.PyJWTError as refusal:
            raise Refused(f"{type(refusal).__name__}: {refusal}") from refusal

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


async def check(verifier: Verifier, front: Front, findings: Findings, over: asyncio.Event) -> None:
    """Let `verifier` judge every living token again and again, and some that are not good, each time."""
    while not over.is_set():
        for token in findings.alive():
            try:
                await verifier.verify(token.text)
            except NoKeys:
                findings.count(f"no keys: {verifier.kind}")
                break  # nor for the others: it would only ask the same again
            except Refused as refusal:
                _judge(verifier, token, refusal, front, findings)
            else:
                findings.goes_on(f"verified: {verifier.kind}")
        await _refuse_spoiled(verifier, findings)
        await asyncio.sleep(ROUND_SECONDS)


async def _refuse_spoiled(verifier: Verifier, findings: Findings) -> None:
    for fault, token in findings.spoiled(verifier.rules.clock_skew, verifier.kids()).items():
        try:
            await verifier.verify(token)
        except NoKeys:
            return
        except Refused as refusal:
            findings.refused(fault, verifier.kind, str(refusal))
        else:
            findings.violation(f"a token that is {fault} is refused", verifier=verifier.kind, token=token)


def _judge(verifier: Verifier, token: Token, refusal: Refused, front: Front, findings: Findings) -> None:
    now = time.time()
    if token.expires_at <= now:
        findings.count(f"expired meanwhile: {verifier.kind}")
        return
    unreachable = now - front.failed_at <= verifier.rules.max_age + FETCH_SECONDS
    if unreachable and not isinstance(verifier, Strict):
        # It could fetch nothing from anybody, and judges by an old document rather than by none.
        findings.count(f"refused while no node served: {verifier.kind}")
        return
    findings.refused("VALID", verifier.kind, str(refusal))
    facts: dict[str, Any] = {
        "token": findings.described(token),
        "refusal": refusal,
        "kids held": [kid[:8] for kid in verifier.kids()],
        "document of": findings.since_start(now - verifier.age()),
        "front": [(findings.since_start(at), node, status) for at, node, status in front.answers],
    }
    findings.violation(f"a valid token was refused by {verifier.kind}", **facts)
