"""The age of the keys after the machine was suspended, and after the wall clock was set.

During a suspend the monotonic clock of Linux stops and the wall clock continues; setting the wall clock moves it
alone. The age with both clocks in agreement is tested in `test_keys`.
"""

import asyncio
from typing import Any

import httpx2
import pytest
from support.verifier import AUDIENCE, Forge

from jwks_verifier import (
    Event,
    InvalidToken,
    JwksCache,
    KeysUnavailable,
    Reason,
    State,
    Timings,
    TokenVerifier,
)
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair

pytestmark = pytest.mark.anyio
HOUR = 3600.0
FAR = 1_900_000_000
Events = list[tuple[Event, str]]


class Machine:
    """The two clocks of a machine that can be suspended and whose wall clock can be set."""

    def __init__(self) -> None:
        self.awake = 1000.0
        self.date = 1_800_000_000.0

    def run(self, seconds: float) -> None:
        self.awake += seconds
        self.date += seconds

    def suspend(self, seconds: float) -> None:
        self.date += seconds

    set_wall = suspend

    def monotonic(self) -> float:
        return self.awake

    def wall(self) -> float:
        return self.date


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def cache(issuer: InProcessIssuer, machine: Machine, events: Events, timings: Timings) -> JwksCache:
    return JwksCache(
        issuer.url,
        transport=issuer.transport,
        timings=timings,
        monotonic=machine.monotonic,
        wall=machine.wall,
        on_event=lambda event, detail: events.append((event, detail)),
    )


@pytest.fixture
def verifier(cache: JwksCache, machine: Machine) -> TokenVerifier:
    return TokenVerifier(cache, AUDIENCE, wall=machine.wall)


@pytest.mark.parametrize("asleep", [301.0, HOUR, 3901.0, 24 * HOUR])
async def test_a_key_removed_during_a_suspend_is_rejected_at_the_first_request(
    asleep: float,
    verifier: TokenVerifier,
    machine: Machine,
    issuer: InProcessIssuer,
    forge: Forge,
    pairs: Any,
) -> None:
    async with verifier.cache:
        removed = forge.token(exp=FAR)
        await verifier.verify(removed)
        issuer.keys = [pairs[1]]
        machine.run(1)  # within a second of the last fetch there is no other, whatever the clocks do
        machine.suspend(asleep)
        with pytest.raises(InvalidToken) as refusal:
            await verifier.verify(removed)
        assert refusal.value.reason is Reason.UNKNOWN_KEY
        assert (await verifier.verify(forge.token(exp=FAR))).subject == "u1"
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_all_requests_after_a_suspend_wait_for_one_fetch(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge, pairs: Any
) -> None:
    async with verifier.cache:
        removed = forge.token(exp=FAR)
        await verifier.verify(removed)
        issuer.keys = [pairs[1]]
        machine.run(1)
        machine.suspend(HOUR)
        outcomes = await asyncio.gather(
            *(verifier.verify(removed) for _ in range(500)), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {InvalidToken}
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_after_a_suspend_an_outage_is_bridged_for_as_long_as_any_other(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge, events: Events
) -> None:
    async with verifier.cache as cache:
        await verifier.verify(forge.token(exp=FAR))
        issuer.down = True
        machine.run(1)
        machine.suspend(HOUR)
        assert cache.state is State.STALE
        for _ in range(20):
            await verifier.verify(forge.token(exp=FAR))
        assert [event for event, _ in events].count(Event.FETCH_FAILED) == 1
        machine.suspend(301)
        assert cache.state is State.EXPIRED
        with pytest.raises(KeysUnavailable):
            await verifier.verify(forge.token(exp=FAR))


async def test_invalid_tokens_cause_no_fetch_after_a_suspend(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge
) -> None:
    async with verifier.cache:
        await verifier.verify(forge.token())
        machine.suspend(HOUR)
        for junk in (
            "junk",
            forge.signed(forge.header(), forge.claims(), forge.stranger),
            forge.token(exp=1),
        ):
            with pytest.raises(InvalidToken):
                await verifier.verify(junk)
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_the_keys_are_refreshed_soon_after_a_suspend_without_a_request(
    issuer: InProcessIssuer, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwks_verifier.cache.TICK", 0.01)
    again = asyncio.Event()

    def listen(event: Event, _: str) -> None:
        if event is Event.NOT_MODIFIED:
            again.set()

    cache = JwksCache(
        issuer.url,
        transport=issuer.transport,
        monotonic=machine.monotonic,
        wall=machine.wall,
        on_event=listen,
    )
    async with cache:
        await cache.refetched()
        machine.suspend(HOUR)  # the loop's own timer is due in four minutes
        await asyncio.wait_for(again.wait(), timeout=60)
        assert cache.state is State.FRESH


async def test_a_wall_clock_set_forward_causes_one_fetch_and_no_rejection(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge
) -> None:
    async with verifier.cache as cache:
        await verifier.verify(forge.token(exp=FAR))
        machine.run(2)
        for jump in (HOUR, 24 * HOUR):
            before = issuer.requests.count(JWKS_PATH)
            machine.set_wall(jump)
            for _ in range(50):
                await verifier.verify(forge.token(exp=FAR))
            assert issuer.requests.count(JWKS_PATH) == before + 1
            assert cache.state is State.FRESH
            machine.run(2)


async def test_an_unstable_wall_clock_causes_at_most_one_fetch_per_second(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge
) -> None:
    unknown = forge.token({"kid": "nobody"}, exp=FAR)
    async with verifier.cache as cache:
        await cache.refetched()
        for _ in range(100):  # in ten seconds
            machine.run(0.1)
            machine.set_wall(301)
            await verifier.verify(forge.token(exp=FAR))
            with pytest.raises(InvalidToken):
                await verifier.verify(unknown)
    assert issuer.requests.count(JWKS_PATH) <= 11


async def test_a_key_removed_while_a_suspend_interrupted_a_fetch_is_rejected_at_the_first_request(
    issuer: InProcessIssuer, pairs: list[KeyPair], machine: Machine, timings: Timings, forge: Forge
) -> None:
    token = forge.token(exp=FAR)
    handed_over: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        response = issuer.transport.handler(request)
        if request.url.path == JWKS_PATH and not handed_over:  # read before the suspend, imported after it
            handed_over.append(1)
            machine.suspend(HOUR)
            issuer.keys = pairs[1:2]
        assert isinstance(response, httpx2.Response)
        return response

    cache = JwksCache(
        issuer.url,
        transport=httpx2.MockTransport(answer),
        timings=timings,
        monotonic=machine.monotonic,
        wall=machine.wall,
    )
    async with cache:
        await cache.refresh()
        assert cache.state is State.STALE
        with pytest.raises(InvalidToken) as refusal:
            await TokenVerifier(cache, AUDIENCE, wall=machine.wall).verify(token)
        assert cache.state is State.FRESH
    assert refusal.value.reason is Reason.UNKNOWN_KEY
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_keys_that_are_stale_on_arrival_are_not_fetched_in_a_loop(
    issuer: InProcessIssuer, machine: Machine
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        machine.run(1)  # longer than the keys are trusted
        response = issuer.transport.handler(request)
        assert isinstance(response, httpx2.Response)
        return response

    cache = JwksCache(
        issuer.url,
        transport=httpx2.MockTransport(answer),
        timings=Timings(ttl_floor=0.5, ttl_ceiling=0.5),
        monotonic=machine.monotonic,
        wall=machine.wall,
    )
    async with cache:
        await cache.refresh()
        for _ in range(100):
            await asyncio.sleep(0)
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_a_wall_clock_set_back_does_not_extend_the_age_limits(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge
) -> None:
    async with verifier.cache as cache:
        await cache.refetched()
        issuer.down = True
        machine.set_wall(-24 * HOUR)
        seen = []
        for seconds in (300, 0.1, 3599.9, 0.1):
            machine.run(seconds)
            seen.append(cache.state)
        with pytest.raises(InvalidToken):  # issued tomorrow
            await verifier.verify(forge.token({"kid": "nobody"}, exp=FAR))
    assert seen == [State.FRESH, State.STALE, State.STALE, State.EXPIRED]


async def test_a_wall_clock_set_forward_and_back_does_not_change_the_age(
    cache: JwksCache, machine: Machine
) -> None:
    async with cache:
        machine.set_wall(HOUR)
        await cache.refetched()
        machine.set_wall(-HOUR)
        machine.run(299)
        assert cache.state is State.FRESH
        machine.run(2)
        assert cache.state is State.STALE


async def test_during_an_outage_no_request_waits_even_if_the_keys_are_stale(
    verifier: TokenVerifier, machine: Machine, issuer: InProcessIssuer, forge: Forge, events: Events
) -> None:
    async with verifier.cache as cache:
        await cache.refetched()
        issuer.down = True
        machine.run(240)
        await cache.refresh()  # the one on time
        machine.run(100)
        assert not cache.refresh_is_late
        await verifier.verify(forge.token(exp=FAR))
    assert [event for event, _ in events].count(Event.FETCH_FAILED) == 1


async def test_importing_a_key_set_yields_to_other_tasks(
    issuer: InProcessIssuer, pairs: list[KeyPair]
) -> None:
    issuer.keys = [*pairs] * 10
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_work())
    async with JwksCache(issuer.url, transport=issuer.transport) as cache:
        await cache.refetched()
    other.cancel()
    assert turns > len(issuer.keys)
