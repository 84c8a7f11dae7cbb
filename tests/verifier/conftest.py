"""Owns what the verifier's tests share: clocks, a forge for tokens, an issuer that misbehaves on request.

The well-behaved issuer is `verifier_example.testing`; the tests themselves say what should happen.
"""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from jwt.algorithms import RSAAlgorithm

from verifier_example.testing import JWKS_PATH, InProcessIssuer, KeyPair
from verifier_example.verifier import (
    AccessToken,
    Event,
    InvalidToken,
    JwksCache,
    Reason,
    Timings,
    TokenVerifier,
)

AUDIENCE = "https://api.test"
START = 1_800_000_000.0


class Clock:
    """Two clocks that move only when told to."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.rested = 0.0

    def advance(self, seconds: float) -> None:
        self.passed += seconds

    def rest(self, seconds: float) -> None:
        """Let a cooldown pass, and no token age."""
        self.rested += seconds

    def monotonic(self) -> float:
        return 1000 + self.passed + self.rested

    def wall(self) -> float:
        return START + self.passed


@dataclass
class Forge:
    """Signs whatever it is given, with the key that the issuer publishes."""

    issuer: InProcessIssuer
    stranger: KeyPair

    @property
    def key(self) -> KeyPair:
        return self.issuer.keys[-1]

    def claims(self, **changes: Any) -> dict[str, Any]:
        base = {
            "iss": self.issuer.url,
            "sub": "u1",
            "aud": [AUDIENCE, self.issuer.url],
            "client_id": "first-party",
            "username": "alice",
            "iat": int(START),
            "exp": int(START) + 600,
            "jti": "j1",
            "scope": "items:read",
        }
        return {name: value for name, value in {**base, **changes}.items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        base = {"alg": "RS256", "typ": "at+jwt", "kid": self.key.kid}
        return {name: value for name, value in {**base, **changes}.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        return self.signed(self.header(**(header or {})), self.claims(**claims))

    def signed(self, header: Any, payload: Any, key: KeyPair | None = None) -> str:
        """Sign a header and a payload given as JSON values, or as the very bytes."""
        signing_input = self.unsigned(header, payload)
        signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signing_input.encode(), (key or self.key).private)
        return f"{signing_input}.{self.segment(signature)}"

    def unsigned(self, header: Any, payload: Any) -> str:
        return f"{self.segment(header)}.{self.segment(payload)}"

    @staticmethod
    def segment(part: Any) -> str:
        raw = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Judge:
    """A verifier that has its keys, and a loop to ask it on."""

    def __init__(self, verifier: TokenVerifier, runner: asyncio.Runner, issuer: InProcessIssuer) -> None:
        self._verifier = verifier
        self._run = runner.run
        self._issuer = issuer

    def __call__(self, token: str) -> AccessToken:
        return self._run(self._verifier.verify(token))

    def reason(self, token: str) -> Reason:
        """Return why the token is refused, which it must be."""
        with pytest.raises(InvalidToken) as refusal:
            self(token)
        return refusal.value.reason

    @property
    def fetches(self) -> int:
        return self._issuer.requests.count(JWKS_PATH)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ScriptedIssuer:
    """A real server on loopback that answers every request as `answer` does."""

    url: str = ""
    answer: Answer | bytes = b""
    paths: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split()[1].decode())
            if isinstance(self.answer, bytes):
                writer.write(self.answer)
                await writer.drain()
            else:
                await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedIssuer"]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self


def http_answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def serve(app: FastAPI, ws: str = "none") -> AsyncIterator[tuple[uvicorn.Server, str]]:
    """Run the app on a real uvicorn; the socket listens before, so that nobody need wait for the start."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws=ws))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pairs() -> list[KeyPair]:
    """Make key pairs once: they are slow to make."""
    return [KeyPair() for _ in range(4)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(pairs: list[KeyPair]) -> InProcessIssuer:
    return InProcessIssuer(keys=pairs[:1])


@pytest.fixture
def forge(issuer: InProcessIssuer, pairs: list[KeyPair]) -> Forge:
    return Forge(issuer, pairs[3])


@pytest.fixture
def events() -> list[tuple[Event, str]]:
    return []


@pytest.fixture
def timings() -> Timings:
    """The defaults, but for retries: those follow the loop's clock, and no test shall meet one by chance."""
    return Timings(backoff_first=3600, backoff_last=3600)


@pytest.fixture
def cache(
    issuer: InProcessIssuer, clock: Clock, events: list[tuple[Event, str]], timings: Timings
) -> JwksCache:
    return JwksCache(
        issuer.url,
        transport=issuer.transport,
        timings=timings,
        monotonic=clock.monotonic,
        on_event=lambda event, detail: events.append((event, detail)),
    )


@pytest.fixture
def verifier(cache: JwksCache, clock: Clock) -> TokenVerifier:
    return TokenVerifier(cache, AUDIENCE, wall=clock.wall)


@pytest.fixture
def judge(verifier: TokenVerifier, issuer: InProcessIssuer) -> Iterator[Judge]:
    with asyncio.Runner() as runner:
        runner.run(verifier.cache.__aenter__())
        runner.run(verifier.cache.refetched())
        yield Judge(verifier, runner, issuer)
        runner.run(verifier.cache.__aexit__())


@pytest.fixture
def scripted() -> Callable[[], ScriptedIssuer]:
    return ScriptedIssuer


@pytest.fixture
def answering() -> Callable[..., bytes]:
    return http_answer


@pytest.fixture
def serving() -> Callable[..., Any]:
    return serve
