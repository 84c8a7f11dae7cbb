"""A hostile key server blocks neither the event loop nor the service; over real sockets.

The server is `support.attacks.hostile_server`; what a key set may contain is tested in `test_attacks`.
"""

import asyncio
import gc
import socket
import time
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest
from support.attacks.hostile_server import HOSTILE, HostileServer, Stall, hostile_server
from support.servers import PATIENCE_SECONDS
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import Event, InvalidToken, JwksCache, KeysUnavailable, State, Timings, TokenVerifier
from jwks_verifier.testing import InProcessIssuer, KeyPair

DEADLINE = 1.0
BLOCKED = 0.4
"""Seconds; a fetch that blocks takes the whole deadline, anything else a few milliseconds."""
ATTEMPTS = 10  # a machine may pause; a block comes each time
NEVER_SECONDS = 2 * PATIENCE_SECONDS
NO_RETRIES = Timings(
    fetch_deadline=DEADLINE,
    connect_timeout=DEADLINE / 2,
    wait=DEADLINE,
    backoff_first=3600,
    backoff_last=3600,
)

pytestmark = [pytest.mark.anyio, pytest.mark.processes]


@pytest.fixture(scope="module")
def server(pairs: list[KeyPair]) -> Iterator[HostileServer]:
    with hostile_server({"keys": [pairs[0].jwk]}) as server:
        yield server


Make = Callable[..., TokenVerifier]


@pytest.fixture
def verifier_of(
    server: HostileServer, issuer: InProcessIssuer, clock: Clock, events: list[tuple[Event, str]]
) -> Make:
    """Make a verifier of the issuer's tokens that fetches the keys from a path."""

    def make(path: str, timings: Timings = NO_RETRIES, port: int = 0, scheme: str = "http") -> TokenVerifier:
        url = f"{scheme}://127.0.0.1:{port or server.port}{path}"
        listen = lambda event, detail: events.append((event, detail))  # noqa: E731 - two lines of it
        cache = JwksCache(issuer.url, jwks_url=url, timings=timings, on_event=listen)
        return TokenVerifier(cache, AUDIENCE, wall=clock.wall)

    return make


async def keep_verifying(verifier: TokenVerifier, token: str) -> int:
    """Verify a valid token repeatedly until cancelled; a rejection raises."""
    accepted = 0
    try:
        while True:
            await verifier.verify(token)
            accepted += 1
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        return accepted


@pytest.mark.parametrize("behaviour", HOSTILE)
async def test_a_hostile_answer_blocks_nothing_keeps_the_keys_and_is_requested_once(
    behaviour: str, server: HostileServer, verifier_of: Make, forge: Forge, events: list[tuple[Event, str]]
) -> None:
    stalls: list[float] = []
    while not stalls or (min(stalls) > BLOCKED and len(stalls) < ATTEMPTS):
        path = server.path(behaviour, good=1)
        verifier = verifier_of(path)
        async with verifier.cache as cache:
            before = await cache.refetched()
            service = asyncio.create_task(keep_verifying(verifier, forge.token()))
            async with Stall() as stall:
                await asyncio.wait_for(cache.refresh(), PATIENCE_SECONDS)
            service.cancel()
            assert await service >= 1
            assert cache.usable is before
            assert [event for event, _ in events].count(Event.FETCH_FAILED) == len(stalls) + 1
        assert server.counts(path) == (2, 1)
        stalls.append(stall.seconds)
    assert min(stalls) < BLOCKED


@pytest.mark.parametrize("behaviour", ["silence at once", "drip of a body", "gzip bomb", "reset in the body"])
async def test_without_a_first_valid_answer_requests_fail_within_the_time_limit(
    behaviour: str, server: HostileServer, verifier_of: Make, forge: Forge
) -> None:
    path = server.path(behaviour)
    verifier = verifier_of(path)
    async with verifier.cache:
        with pytest.raises(KeysUnavailable):
            await asyncio.wait_for(verifier.verify(forge.token()), PATIENCE_SECONDS)
    assert server.counts(path) == (1, 1)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never sends a byte, not even for TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("failure", ["distrusted", "plain", "silent", "closed"])
async def test_without_trusted_tls_nothing_is_fetched(
    failure: str, server: HostileServer, verifier_of: Make, forge: Forge, silent_port: int, closed_port: int
) -> None:
    ports = {
        "distrusted": server.tls_port,
        "plain": server.port,
        "silent": silent_port,
        "closed": closed_port,
    }
    path = server.path("good")
    stalls: list[float] = []
    # The first handshake of a process reads the certificates of the machine.
    while not stalls or (min(stalls) > BLOCKED and len(stalls) < ATTEMPTS):
        verifier = verifier_of(path, port=ports[failure], scheme="https")
        async with verifier.cache as cache, Stall() as stall:
            with pytest.raises(KeysUnavailable):
                await asyncio.wait_for(verifier.verify(forge.token()), PATIENCE_SECONDS)
            assert cache.state is State.EMPTY
        stalls.append(stall.seconds)
    assert server.counts(path) == (0, 0)
    assert min(stalls) < BLOCKED


async def test_a_thousand_first_requests_cost_one_fetch(
    server: HostileServer, verifier_of: Make, forge: Forge
) -> None:
    path, token = server.path("late"), forge.token()
    verifier = verifier_of(path, Timings(wait=20, fetch_deadline=20, connect_timeout=20))
    async with verifier.cache:
        outcomes = await asyncio.gather(*(verifier.verify(token) for _ in range(1000)))
    assert len(outcomes) == 1000
    assert server.counts(path) == (1, 1)


async def test_many_unknown_kids_cause_one_fetch_per_cooldown_and_delay_no_request(
    server: HostileServer, verifier_of: Make, forge: Forge
) -> None:
    path, cooldown = server.path("late"), 0.25
    verifier = verifier_of(path, Timings(cooldown=cooldown, cooldown_empty=cooldown))
    flood = [forge.token({"kid": f"made-up-{number}"}) for number in range(50)]
    good = forge.token()
    async with verifier.cache as cache:
        await cache.refetched()
        service = asyncio.create_task(keep_verifying(verifier, good))
        began = time.monotonic()
        while time.monotonic() - began < 4 * cooldown:
            outcomes = await asyncio.gather(*map(verifier.verify, flood), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {InvalidToken}
            await asyncio.sleep(0)
        cooldowns = (time.monotonic() - began) / cooldown
        service.cancel()
        assert await service >= 1
    asked, at_once = server.counts(path)
    assert 2 <= asked <= 2 + cooldowns
    assert at_once == 1


OUTAGES = ("reset at once", "silence at once", "endless body", "a redirect to a good set")


@pytest.mark.parametrize("outage", OUTAGES)
async def test_valid_tokens_are_accepted_during_an_outage_and_few_fetches_are_attempted(
    outage: str, server: HostileServer, verifier_of: Make, forge: Forge
) -> None:
    path = server.path(outage, good=1)
    backoff = 0.2
    timings = Timings(
        ttl_floor=0.1,
        ttl_ceiling=0.1,
        backoff_first=backoff,
        backoff_last=backoff,
        fetch_deadline=0.5,
        max_stale=60,
    )
    verifier = verifier_of(path, timings)
    async with verifier.cache as cache:
        await cache.refetched()
        began = time.monotonic()
        service = asyncio.create_task(keep_verifying(verifier, forge.token()))
        while cache.state is not State.STALE or server.counts(path)[0] < 3:
            await asyncio.sleep(0.02)
            assert time.monotonic() - began < PATIENCE_SECONDS
        service.cancel()
        assert await service >= 1
        lasted = time.monotonic() - began
    asked, at_once = server.counts(path)
    assert asked <= 3 + lasted / (backoff / 2)
    assert at_once == 1


async def test_a_long_outage_leads_to_503_and_the_service_recovers_afterwards(
    server: HostileServer, verifier_of: Make, forge: Forge
) -> None:
    path = server.path("away", good=1)
    timings = Timings(ttl_floor=0.1, ttl_ceiling=0.1, max_stale=0.5, backoff_first=0.1, backoff_last=0.1)
    verifier = verifier_of(path, timings)
    seen: list[str] = []
    async with verifier.cache as cache, asyncio.timeout(PATIENCE_SECONDS):
        await cache.refetched()
        while seen[-1:] != ["accepted"] or "503" not in seen:
            try:
                await verifier.verify(forge.token())
                seen.append("accepted")
            except KeysUnavailable:
                seen.append("503")
                server.come_back()
            await asyncio.sleep(0.01)
    assert [each for each, _ in groupby(seen)] == ["accepted", "503", "accepted"]
    assert server.counts(path)[1] == 1


async def test_a_stop_during_a_tls_handshake_leaks_nothing(
    verifier_of: Make, silent_port: int, recwarn: pytest.WarningsRecorder
) -> None:
    verifier = verifier_of("/", Timings(), port=silent_port, scheme="https")
    async with verifier.cache:
        await asyncio.sleep(0.2)  # the handshake has begun, and will not end
    del verifier
    gc.collect()
    assert not [str(warning.message) for warning in recwarn.list]


@pytest.mark.parametrize(
    "behaviour", ["silence at once", "endless chunks", "drip of headers", "drip of a body"]
)
async def test_a_stop_ends_the_fetch_and_every_request_that_waits_for_it(
    behaviour: str, server: HostileServer, verifier_of: Make, forge: Forge, recwarn: pytest.WarningsRecorder
) -> None:
    path = server.path(behaviour)
    verifier = verifier_of(path, Timings(fetch_deadline=NEVER_SECONDS, wait=NEVER_SECONDS))
    before = asyncio.all_tasks()
    async with verifier.cache:
        waiting = [asyncio.create_task(verifier.verify(forge.token())) for _ in range(200)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while server.counts(path) != (1, 1):  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.01)
        began = time.perf_counter()
    assert time.perf_counter() - began < PATIENCE_SECONDS
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_SECONDS)
    assert {type(outcome) for outcome in outcomes} == {KeysUnavailable}
    del verifier, outcomes, waiting
    gc.collect()  # now, or a connection left open would be found in another test
    assert asyncio.all_tasks() == before
    assert server.counts(path) == (1, 1)
    assert not recwarn.list
