"""Fixtures of the verifier's tests; the classes behind them are in `support.verifier`."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.verifier import AUDIENCE, Clock, Forge, Judge

from jwks_verifier import Event, JwksCache, Timings, TokenVerifier
from jwks_verifier.testing import InProcessIssuer, KeyPair
from verifier_example.app import create_app
from verifier_example.settings import Settings


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
    """The defaults except for retries: those follow the event loop's clock and would disturb a slow test."""
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
def app(verifier: TokenVerifier) -> FastAPI:
    return create_app(Settings(_env_file=None), verifier=verifier)


@pytest.fixture
def client(app: FastAPI, verifier: TokenVerifier) -> Iterator[TestClient]:
    with TestClient(app) as client:
        assert client.portal is not None
        client.portal.call(verifier.cache.refetched)
        yield client
