"""The tools of the verifier's tests: clocks, a forge for tokens, a scripted issuer, a real server.

A well-behaved issuer is provided by `jwks_verifier.testing`, fixtures by `tests/verifier/conftest.py`.
"""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from jwt.algorithms import RSAAlgorithm

from jwks_verifier import AccessToken, InvalidToken, Reason, TokenVerifier
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair

AUDIENCE = "https://api.test"
METADATA_PATH = "/.well-known/oauth-protected-resource"
METADATA_PARAMETER = f'resource_metadata="{AUDIENCE}{METADATA_PATH}"'
"""A parameter of every challenge."""

START = 1_800_000_000.0


class Clock:
    """Two clocks that tests move."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.rested = 0.0

    def advance(self, seconds: float) -> None:
        self.passed += seconds

    def rest(self, seconds: float) -> None:
        """Move the monotonic clock alone, so that a cooldown passes and no token ages."""
        self.rested += seconds

    def monotonic(self) -> float:
        return 1000 + self.passed + self.rested

    def wall(self) -> float:
        return START + self.passed


@dataclass
class Forge:
    """Signs any header and payload with the key that the issuer publishes."""

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
        """Sign a header and a payload, given as JSON values or as raw bytes."""
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
    """A verifier that has its keys, with an event loop to call it on."""

    def __init__(self, verifier: TokenVerifier, runner: asyncio.Runner, issuer: InProcessIssuer) -> None:
        self._verifier = verifier
        self._run = runner.run
        self._issuer = issuer

    def __call__(self, token: str) -> AccessToken:
        return self._run(self._verifier.verify(token))

    def reason(self, token: str) -> Reason:
        """Return why the token is rejected; fail if it is accepted."""
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
            pass  # the client has closed the connection
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
    """Run the app on a real uvicorn; the socket listens already, so that no caller has to wait for the start."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws=ws))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
