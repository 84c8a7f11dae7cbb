"""The life of cached keys: states by age, rotation, and the schedule of refreshes.

Single fetches are tested in `test_fetches`, the contents of a key set in `test_attacks` and `test_import`.
"""

import asyncio

import httpx2
import pytest
from support.verifier import Clock, Forge

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
from jwks_verifier.verifier import MAX_CACHED_HEADERS

pytestmark = pytest.mark.anyio
Events = list[tuple[Event, str]]


def count(events: Events, kind: Event) -> int:
    return sum(event is kind for event, _ in events)


# States


async def test_the_state_follows_from_the_age_of_the_keys(
    cache: JwksCache, clock: Clock, issuer: InProcessIssuer
) -> None:
    seen = [cache.state]
    async with cache:
        await cache.refetched()
        issuer.down = True
        for seconds in (300, 0.1, 3599.9, 0.1):
            clock.advance(seconds)
            seen.append(cache.state)
    assert seen == [State.EMPTY, State.FRESH, State.STALE, State.STALE, State.EXPIRED]


async def test_a_cache_of_two_verifiers_is_refreshed_until_both_have_ended(
    verifier: TokenVerifier, clock: Clock, issuer: InProcessIssuer, forge: Forge
) -> None:
    other = TokenVerifier(verifier.cache, "https://other.test", wall=clock.wall)
    async with verifier:
        async with other:
            assert (await other.verify(forge.token(aud="https://other.test"))).subject == "u1"
        assert verifier.cache._timer is not None
        assert not verifier.cache._timer.cancelled()
    assert verifier.cache._timer.cancelled()


async def test_tokens_are_accepted_during_an_outage_until_the_keys_are_too_old(
    verifier: TokenVerifier, clock: Clock, issuer: InProcessIssuer, forge: Forge, events: Events
) -> None:
    async with verifier.cache as cache:
        await cache.refetched()
        issuer.down = True
        clock.advance(300)
        await verifier.verify(forge.token(exp=1_900_000_000))
        assert count(events, Event.SERVED_STALE) == 0
        clock.advance(3600)
        await verifier.verify(forge.token(exp=1_900_000_000))
        assert count(events, Event.SERVED_STALE) == 1
        clock.advance(0.1)
        with pytest.raises(KeysUnavailable):
            await verifier.verify(forge.token(exp=1_900_000_000))
        issuer.down = False
        clock.advance(10)
        await verifier.verify(forge.token(exp=1_900_000_000))
        assert cache.state is State.FRESH


async def test_a_start_without_the_issuer_leads_to_503_and_recovers(
    verifier: TokenVerifier, clock: Clock, issuer: InProcessIssuer, forge: Forge
) -> None:
    issuer.down = True
    async with verifier.cache:
        with pytest.raises(KeysUnavailable) as nothing:
            await verifier.verify(forge.token())
        assert nothing.value.retry_after >= 1
        issuer.down = False
        clock.advance(1)
        assert (await verifier.verify(forge.token())).username == "alice"


async def test_an_unknown_kid_is_a_401_with_keys_and_a_503_without(
    verifier: TokenVerifier, clock: Clock, issuer: InProcessIssuer, forge: Forge
) -> None:
    unknown = forge.token({"kid": "nobody"}, exp=1_900_000_000)
    seen: list[tuple[State, type[Exception]]] = []

    async def ask() -> None:
        with pytest.raises((InvalidToken, KeysUnavailable)) as refusal:
            await verifier.verify(unknown)
        seen.append((verifier.cache.state, refusal.type))

    issuer.down = True
    await ask()
    issuer.down = False
    await verifier.cache.refresh()
    issuer.down = True
    for seconds in (0, 301, 3600):
        clock.advance(seconds)
        await ask()
    async with verifier.cache:  # stops the fetches that were started without it
        pass
    assert seen == [
        (State.EMPTY, KeysUnavailable),
        (State.FRESH, InvalidToken),
        (State.STALE, InvalidToken),
        (State.EXPIRED, KeysUnavailable),
    ]


async def test_malformed_tokens_are_rejected_even_without_keys(
    verifier: TokenVerifier, issuer: InProcessIssuer
) -> None:
    with pytest.raises(InvalidToken):
        await verifier.verify("junk")
    assert issuer.requests == []


# Rotation


async def test_the_first_token_of_an_unannounced_key_causes_one_fetch_and_is_accepted(
    verifier: TokenVerifier,
    issuer: InProcessIssuer,
    clock: Clock,
    forge: Forge,
    pairs: list[KeyPair],
) -> None:
    async with verifier.cache:
        old = forge.token()
        await verifier.verify(old)
        issuer.keys.append(pairs[1])
        new = forge.token()
        with pytest.raises(InvalidToken):  # within the cooldown after the first fetch
            await verifier.verify(new)
        clock.advance(10)
        await verifier.verify(new)
        await verifier.verify(old)
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_a_key_published_in_advance_causes_no_fetch_when_it_starts_to_sign(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Forge, pairs: list[KeyPair]
) -> None:
    issuer.keys = pairs[:2]
    async with verifier.cache:
        await verifier.verify(forge.signed(forge.header(kid=pairs[0].kid), forge.claims(), pairs[0]))
        await verifier.verify(forge.token())
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_a_removed_key_is_rejected_after_the_next_fetch(
    verifier: TokenVerifier, issuer: InProcessIssuer, clock: Clock, forge: Forge, pairs: list[KeyPair]
) -> None:
    async with verifier.cache as cache:
        removed = forge.token()
        await verifier.verify(removed)
        assert cache.retry_after <= 300 * 0.85 + 1  # the next refresh comes before the ttl ends
        issuer.keys = [pairs[1]]
        clock.advance(255)
        await cache.refresh()
        with pytest.raises(InvalidToken) as refusal:
            await verifier.verify(removed)
        assert refusal.value.reason is Reason.UNKNOWN_KEY
        await verifier.verify(forge.token())


async def test_the_cache_of_headers_is_bounded_and_replaced_with_the_keys(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Forge, pairs: list[KeyPair]
) -> None:
    async with verifier.cache as cache:
        first = await cache.refetched()
        with pytest.raises(InvalidToken):
            await verifier.verify(forge.signed(forge.header(x="forged"), forge.claims(), forge.stranger))
        assert not first.by_header
        for number in range(MAX_CACHED_HEADERS + 1):
            await verifier.verify(forge.token({"x": number}))
        assert len(first.by_header) == MAX_CACHED_HEADERS
        issuer.keys = [pairs[1]]
        await cache.refresh()
        assert cache.usable is not None
        assert not cache.usable.by_header


async def test_added_and_removed_keys_are_reported(
    cache: JwksCache, issuer: InProcessIssuer, pairs: list[KeyPair], events: Events
) -> None:
    async with cache:
        await cache.refetched()
        issuer.keys = [pairs[1]]
        await cache.refresh()
    assert [event for event in events if event[0] in {Event.KEY_ADDED, Event.KEY_REMOVED}] == [
        (Event.KEY_ADDED, pairs[0].kid),
        *sorted(
            [(Event.KEY_ADDED, pairs[1].kid), (Event.KEY_REMOVED, pairs[0].kid)], key=lambda event: event[1]
        ),
    ]


async def test_workers_started_together_refresh_at_different_times_before_the_ttl_ends(
    issuer: InProcessIssuer, clock: Clock
) -> None:
    delays = set()
    for _ in range(30):
        async with JwksCache(issuer.url, transport=issuer.transport, monotonic=clock.monotonic) as cache:
            await cache.refresh()
            delays.add(cache.retry_after)
    assert all(0.75 * 300 <= delay <= 0.85 * 300 + 1 for delay in delays)
    assert len(delays) > 5


async def test_refreshes_repeat_without_requests(issuer: InProcessIssuer) -> None:
    issuer.max_age = 0
    twice = asyncio.Event()
    seen: list[Event] = []

    def listen(event: Event, _: str) -> None:
        seen.append(event)
        if seen.count(Event.NOT_MODIFIED) == 2:
            twice.set()

    timings = Timings(ttl_floor=0.01)
    async with JwksCache(issuer.url, transport=issuer.transport, timings=timings, on_event=listen):
        await asyncio.wait_for(twice.wait(), timeout=60)
    assert seen[:4] == [Event.FETCHED, Event.KEY_ADDED, Event.NOT_MODIFIED, Event.NOT_MODIFIED]


async def test_failed_fetches_are_retried_with_exponential_backoff(
    issuer: InProcessIssuer, clock: Clock
) -> None:
    issuer.down = True
    cache = JwksCache(issuer.url, transport=issuer.transport, monotonic=clock.monotonic)
    delays = []
    async with cache:
        for _ in range(8):
            await cache.refresh()
            delays.append(cache.retry_after)
    assert all(
        low <= delay <= high
        for delay, (low, high) in zip(
            delays, [(1, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (30, 60), (30, 60)], strict=True
        )
    )


@pytest.mark.parametrize(
    ("headers", "ttl"),
    [
        ({"Cache-Control": "public, max-age=120"}, 120),
        ({"Cache-Control": "max-age=120", "Age": "40"}, 80),
        ({"Cache-Control": "max-age=120", "Age": "junk"}, 120),
        ({"Cache-Control": "max-age=120", "Age": "40, 10"}, 80),
        ({"Cache-Control": "max-age=120", "Age": "9" * 30}, 60),
        ({"Cache-Control": "no-cache"}, 60),
        ({"Cache-Control": "No-Store, max-age=900"}, 60),
        ({"Cache-Control": 'no-cache="set-cookie", max-age=900'}, 900),
        ({"Cache-Control": "x-max-age=900, x-no-store"}, 300),
        ({"Cache-Control": 'MAX-AGE="120"'}, 120),
        ({"Cache-Control": "max-age=0"}, 60),
        ({"Cache-Control": "max-age=86400"}, 3600),
        ({"Cache-Control": "s-maxage=900"}, 300),
        ({"Cache-Control": "max-age=-5"}, 300),
        ({"Cache-Control": "max-age=soon"}, 300),
        ({}, 300),
    ],
)
async def test_the_ttl_is_the_max_age_minus_the_age_within_bounds(
    headers: dict[str, str], ttl: float, pairs: list[KeyPair]
) -> None:
    answer = httpx2.MockTransport(
        lambda _: httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers=headers)
    )
    async with JwksCache("https://issuer.test", jwks_url="https://issuer.test/k", transport=answer) as cache:
        keys = await cache.refetched()
    assert keys.ttl == ttl
