"""Fetches of the key set: shared by concurrent requests, limited by the cooldown, with no extra headers.

Invalid answers are tested in `test_attacks` and `test_hostile`, discovery in `test_discovery`.
"""

import asyncio
import json
import re

import httpx2
import pytest
from support.servers import PATIENCE_SECONDS
from support.verifier import AUDIENCE, Clock, Forge, ScriptedIssuer, http_answer

from issuer.keyring.census import identify
from jwks_verifier import Event, InvalidToken, JwksCache, KeysUnavailable, Reason, Timings, TokenVerifier
from jwks_verifier.cache import MAX_WAITERS
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair

pytestmark = pytest.mark.anyio
ATTEMPTS = (Event.FETCHED, Event.NOT_MODIFIED, Event.FETCH_FAILED)
Events = list[tuple[Event, str]]


def count(events: Events, kind: Event) -> int:
    return sum(event is kind for event, _ in events)


# Fetches under load


class Gate(httpx2.AsyncBaseTransport):
    """Delays every request until it is opened."""

    def __init__(self, issuer: InProcessIssuer) -> None:
        self._issuer = issuer
        self.opened = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self.opened.wait()
        return await self._issuer.transport.handle_async_request(request)


async def test_a_thousand_first_requests_share_one_fetch(
    issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    gate = Gate(issuer)
    async with JwksCache(issuer.url, transport=gate, monotonic=clock.monotonic) as cache:
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
        requests = [asyncio.create_task(verifier.verify(forge.token())) for _ in range(1000)]
        await asyncio.sleep(0)
        assert not any(request.done() for request in requests)
        gate.opened.set()
        assert len(await asyncio.gather(*requests)) == 1000
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_keys_are_refreshed_until_the_last_of_several_verifiers_ends(issuer: InProcessIssuer) -> None:
    refreshed = asyncio.Event()
    cache = JwksCache(
        issuer.url,
        transport=issuer.transport,
        timings=Timings(ttl_floor=0.1, ttl_ceiling=0.1),
        on_event=lambda event, _: refreshed.set() if event is Event.NOT_MODIFIED else None,
    )
    async with TokenVerifier(cache, AUDIENCE):
        async with TokenVerifier(cache, "https://another.test"):
            await cache.refresh()
        refreshed.clear()
        await asyncio.wait_for(refreshed.wait(), PATIENCE_SECONDS)


async def test_a_cancelled_request_does_not_cancel_the_fetch(
    issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    gate = Gate(issuer)
    async with JwksCache(issuer.url, transport=gate, monotonic=clock.monotonic) as cache:
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
        impatient, patient = [asyncio.create_task(verifier.verify(forge.token())) for _ in range(2)]
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait({impatient})
        gate.opened.set()
        assert (await patient).subject == "u1"
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_a_request_waits_for_a_limited_time_while_the_fetch_continues(
    issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    gate = Gate(issuer)
    timings = Timings(wait=0.01)
    async with JwksCache(issuer.url, transport=gate, timings=timings, monotonic=clock.monotonic) as cache:
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
        with pytest.raises(KeysUnavailable):
            await verifier.verify(forge.token())
        gate.opened.set()
        await cache.refresh()
        assert (await verifier.verify(forge.token())).subject == "u1"
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_many_unknown_kids_cause_one_fetch_per_cooldown(
    verifier: TokenVerifier, issuer: InProcessIssuer, clock: Clock, forge: Forge, events: Events
) -> None:
    async with verifier.cache as cache:
        await cache.refetched()
        flood = [forge.token({"kid": f"made-up-{number}"}) for number in range(100)]
        fetches = []
        for _ in range(3):
            outcomes = await asyncio.gather(*map(verifier.verify, flood), return_exceptions=True)
            assert {getattr(outcome, "reason", None) for outcome in outcomes} == {Reason.UNKNOWN_KEY}
            fetches.append(issuer.requests.count(JWKS_PATH))
            await verifier.verify(forge.token())
            clock.advance(10)
        assert fetches == [1, 2, 3]
    # In the first round the cooldown suppresses all, in the others all beyond the number of waiters allowed.
    assert count(events, Event.REFETCH_SUPPRESSED) == 100 + 2 * (100 - MAX_WAITERS)


@pytest.mark.parametrize("down", [False, True])
async def test_the_cooldown_counts_from_an_attempt_of_any_kind(
    down: bool, verifier: TokenVerifier, issuer: InProcessIssuer, clock: Clock, forge: Forge, events: Events
) -> None:
    unknown = forge.token({"kid": "nobody"})
    attempts = []
    async with verifier.cache as cache:
        await cache.refetched()
        clock.advance(100)
        issuer.down = down
        await cache.refresh()  # the scheduled one
        for seconds in (0, 9.9, 0.1, 0):
            clock.advance(seconds)
            with pytest.raises(InvalidToken):
                await verifier.verify(unknown)
            attempts.append(sum(count(events, kind) for kind in ATTEMPTS))
    assert attempts == [2, 2, 3, 3]


# What is fetched, and from where


async def test_an_unchanged_key_set_is_not_transferred_again(
    cache: JwksCache, issuer: InProcessIssuer, clock: Clock, events: Events
) -> None:
    async with cache:
        first = await cache.refetched()
        clock.advance(200)
        await cache.refresh()
        second = cache.usable
    assert second is not None
    assert events[-1][0] is Event.NOT_MODIFIED
    assert second.by_kid is first.by_kid
    assert second.fetched_at.monotonic == first.fetched_at.monotonic + 200
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_a_fetch_requests_uncompressed_json_and_sends_no_credentials(pairs: list[KeyPair]) -> None:
    asked: list[httpx2.Headers] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers)
        headers = {"ETag": '"1"', "Set-Cookie": "session=1; Path=/"}
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers=headers)

    transport = httpx2.MockTransport(answer)
    async with JwksCache("https://i.test", jwks_url="https://i.test/k", transport=transport) as cache:
        await cache.refetched()
        await cache.refresh()
    assert [headers["Accept-Encoding"] for headers in asked] == ["identity", "identity"]
    assert [headers.get("If-None-Match") for headers in asked] == [None, '"1"']
    assert not any({"cookie", "authorization"} & headers.keys() for headers in asked)


@pytest.mark.parametrize("etag", ["1", '"a b"', '"\x7f"', f'"{"x" * 300}"', "W/1", "", '"1", "2"'])
async def test_an_invalid_etag_is_not_sent_back(etag: str, pairs: list[KeyPair]) -> None:
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("if-none-match"))
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers={"ETag": etag})

    transport = httpx2.MockTransport(answer)
    async with JwksCache("https://i.test", jwks_url="https://i.test/k", transport=transport) as cache:
        await cache.refetched()
        await cache.refresh()
    assert asked == [None, None]


async def test_after_a_failure_the_keys_are_discovered_again_without_the_old_etag(
    pairs: list[KeyPair],
) -> None:
    place, asked = ["https://old.test/jwks"], []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.url.host, request.headers.get("if-none-match")))
        if request.url.host == "i.test":
            return httpx2.Response(200, json={"issuer": "https://i.test", "jwks_uri": place[0]})
        if str(request.url) != place[0]:
            return httpx2.Response(404)
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers={"ETag": '"1"'})

    async with JwksCache("https://i.test", transport=httpx2.MockTransport(answer)) as cache:
        await cache.refetched()
        place[0] = "https://new.test/jwks"
        await cache.refresh()
        await cache.refresh()
        assert cache.usable is not None
        assert cache.usable.source == place[0]
    assert asked == [
        ("i.test", None),
        ("old.test", None),
        ("old.test", '"1"'),
        ("i.test", None),
        ("new.test", None),
    ]


async def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(
    pairs: list[KeyPair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with ScriptedIssuer().serving() as server:
        server.answer = http_answer(json.dumps({"keys": [pairs[0].jwk]}).encode())
        async with JwksCache(server.url, jwks_url=f"{server.url}/jwks") as cache:
            assert (await cache.refetched()).by_kid


async def test_a_stopped_cache_can_be_started_again(verifier: TokenVerifier, forge: Forge) -> None:
    for _ in range(2):
        async with verifier.cache:
            await verifier.verify(forge.token())


async def test_a_ttl_floor_of_zero_is_rejected() -> None:
    with pytest.raises(ValueError, match="floor"):
        Timings(ttl_floor=0)


# The name of the service


async def test_a_fetch_says_the_name_of_the_service_and_the_same_instance_each_time(
    pairs: list[KeyPair],
) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["User-Agent"])
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]})

    for name in ("billing", "billing", None):
        transport = httpx2.MockTransport(answer)
        cache = JwksCache("https://i.test", jwks_url="https://i.test/k", name=name, transport=transport)
        async with cache:
            await cache.refetched()
    billing, again, unnamed = asked
    assert billing == again
    program, _, instance = unnamed.partition(" ")
    assert re.fullmatch(r"\([0-9a-f]{8}\)", instance)
    assert billing == f"{program} (billing; {instance[1:]}"
    assert identify(billing) == ("billing", instance[1:-1])  # what an issuer reads


@pytest.mark.parametrize("name", ["", "two words", "a)", "a;b", "é", "a\n", "x" * 65])
async def test_a_name_that_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is 1 to 64 letters"):
        JwksCache("https://issuer.example", name=name)
