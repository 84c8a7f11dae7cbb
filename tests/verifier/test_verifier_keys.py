"""Owns how keys come, stay, rotate and go: states, cooldown, fetch rules, discovery, shutdown.

What the tokens must look like is in `test_verifier_tokens`.
"""

import asyncio
import gzip
import json
import math
import time
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from verifier_example.testing import JWKS_PATH, InProcessIssuer, KeyPair
from verifier_example.verifier import (
    MAX_BODY,
    MAX_KEYS,
    MAX_MEMO,
    MAX_WAITERS,
    Event,
    InvalidToken,
    JwksCache,
    KeysUnavailable,
    Reason,
    State,
    Timings,
    TokenVerifier,
    import_key,
)

pytestmark = pytest.mark.anyio
AUDIENCE = "https://api.test"
ATTEMPTS = (Event.FETCHED, Event.NOT_MODIFIED, Event.FETCH_FAILED)
Events = list[tuple[Event, str]]


def count(events: Events, kind: Event) -> int:
    return sum(event is kind for event, _ in events)


# States


async def test_the_state_is_the_age_of_the_snapshot(
    cache: JwksCache, clock: Any, issuer: InProcessIssuer
) -> None:
    seen = [cache.state]
    async with cache:
        await cache.refetched()
        issuer.down = True
        for seconds in (300, 0.1, 3599.9, 0.1):
            clock.advance(seconds)
            seen.append(cache.state)
    assert seen == [State.EMPTY, State.FRESH, State.STALE, State.STALE, State.DEAD]


async def test_tokens_are_served_through_an_outage_until_the_keys_are_dead(
    verifier: TokenVerifier, clock: Any, issuer: InProcessIssuer, forge: Any, events: Events
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


async def test_a_start_without_the_issuer_serves_503_and_recovers_by_itself(
    verifier: TokenVerifier, clock: Any, issuer: InProcessIssuer, forge: Any
) -> None:
    issuer.down = True
    async with verifier.cache:
        with pytest.raises(KeysUnavailable) as nothing:
            await verifier.verify(forge.token())
        assert nothing.value.retry_after >= 1
        issuer.down = False
        clock.advance(1)
        assert (await verifier.verify(forge.token())).username == "alice"


async def test_an_unknown_kid_is_a_401_while_there_are_keys_and_a_503_without(
    verifier: TokenVerifier, clock: Any, issuer: InProcessIssuer, forge: Any
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
    async with verifier.cache:  # stops what was begun without it
        pass
    assert seen == [
        (State.EMPTY, KeysUnavailable),
        (State.FRESH, InvalidToken),
        (State.STALE, InvalidToken),
        (State.DEAD, KeysUnavailable),
    ]


async def test_junk_is_refused_even_without_keys(verifier: TokenVerifier, issuer: InProcessIssuer) -> None:
    with pytest.raises(InvalidToken):
        await verifier.verify("junk")
    assert issuer.requests == []


# Fetches under load


class Gate(httpx2.AsyncBaseTransport):
    """Holds every request back until it is opened."""

    def __init__(self, issuer: InProcessIssuer) -> None:
        self._issuer = issuer
        self.opened = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self.opened.wait()
        return await self._issuer.transport.handle_async_request(request)


async def test_a_thousand_first_requests_share_one_fetch(
    issuer: InProcessIssuer, clock: Any, forge: Any
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


async def test_a_caller_who_goes_away_cancels_nothing(
    issuer: InProcessIssuer, clock: Any, forge: Any
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


async def test_a_request_waits_no_longer_than_allowed_and_the_fetch_goes_on(
    issuer: InProcessIssuer, clock: Any, forge: Any
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


async def test_a_flood_of_unknown_kids_costs_one_fetch_per_cooldown(
    verifier: TokenVerifier, issuer: InProcessIssuer, clock: Any, forge: Any, events: Events
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
    # In the first round the cooldown held all back, in the others no more than the waiters allowed wait.
    assert count(events, Event.REFETCH_SUPPRESSED) == 100 + 2 * (100 - MAX_WAITERS)


@pytest.mark.parametrize("down", [False, True])
async def test_the_cooldown_counts_from_an_attempt_of_any_kind(
    down: bool, verifier: TokenVerifier, issuer: InProcessIssuer, clock: Any, forge: Any, events: Events
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


# Rotation


async def test_the_first_token_of_an_unannounced_key_is_accepted_at_the_cost_of_one_fetch(
    verifier: TokenVerifier,
    issuer: InProcessIssuer,
    clock: Any,
    forge: Any,
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


async def test_an_announced_key_costs_no_fetch_when_it_begins_to_sign(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Any, pairs: list[KeyPair]
) -> None:
    issuer.keys = pairs[:2]
    async with verifier.cache:
        await verifier.verify(forge.signed(forge.header(kid=pairs[0].kid), forge.claims(), pairs[0]))
        await verifier.verify(forge.token())
    assert issuer.requests.count(JWKS_PATH) == 1


async def test_a_withdrawn_key_is_refused_once_the_ttl_has_brought_the_next_fetch(
    verifier: TokenVerifier, issuer: InProcessIssuer, clock: Any, forge: Any, pairs: list[KeyPair]
) -> None:
    async with verifier.cache as cache:
        withdrawn = forge.token()
        await verifier.verify(withdrawn)
        assert cache.retry_after <= 300 * 0.85 + 1  # the next refresh comes before the ttl ends
        issuer.keys = [pairs[1]]
        clock.advance(255)
        await cache.refresh()
        with pytest.raises(InvalidToken) as refusal:
            await verifier.verify(withdrawn)
        assert refusal.value.reason is Reason.UNKNOWN_KEY
        await verifier.verify(forge.token())


async def test_what_is_remembered_of_headers_goes_with_the_keys_and_never_grows_beyond_bounds(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Any, pairs: list[KeyPair]
) -> None:
    async with verifier.cache as cache:
        first = await cache.refetched()
        with pytest.raises(InvalidToken):
            await verifier.verify(forge.signed(forge.header(x="forged"), forge.claims(), forge.stranger))
        assert not first.memo
        for number in range(MAX_MEMO + 1):
            await verifier.verify(forge.token({"x": number}))
        assert len(first.memo) == MAX_MEMO
        issuer.keys = [pairs[1]]
        await cache.refresh()
        assert cache.usable is not None
        assert not cache.usable.memo


async def test_keys_that_come_and_go_are_told(
    cache: JwksCache, issuer: InProcessIssuer, pairs: list[KeyPair], events: Events
) -> None:
    async with cache:
        await cache.refetched()
        issuer.keys = [pairs[1]]
        await cache.refresh()
    assert [event for event in events if event[0] in {Event.KEY_ADDED, Event.KEY_REMOVED}] == [
        (Event.KEY_ADDED, pairs[0].kid),
        *sorted(
            [(Event.KEY_ADDED, pairs[1].kid), (Event.KEY_REMOVED, pairs[0].kid)], key=lambda told: told[1]
        ),
    ]


async def test_workers_that_start_together_refresh_at_different_times_well_before_the_ttl_ends(
    issuer: InProcessIssuer, clock: Any
) -> None:
    delays = set()
    for _ in range(30):
        async with JwksCache(issuer.url, transport=issuer.transport, monotonic=clock.monotonic) as cache:
            await cache.refresh()
            delays.add(cache.retry_after)
    assert all(0.75 * 300 <= delay <= 0.85 * 300 + 1 for delay in delays)
    assert len(delays) > 5


async def test_refreshes_follow_one_another_by_themselves(issuer: InProcessIssuer) -> None:
    issuer.max_age = 0
    twice = asyncio.Event()
    seen: list[Event] = []

    def listen(event: Event, _: str) -> None:
        seen.append(event)
        if seen.count(Event.NOT_MODIFIED) == 2:
            twice.set()

    timings = Timings(ttl_floor=0.01)
    async with JwksCache(issuer.url, transport=issuer.transport, timings=timings, on_event=listen):
        await asyncio.wait_for(twice.wait(), timeout=5)
    assert seen[:4] == [Event.FETCHED, Event.KEY_ADDED, Event.NOT_MODIFIED, Event.NOT_MODIFIED]


async def test_failures_are_tried_again_by_themselves_ever_more_slowly(
    issuer: InProcessIssuer, clock: Any
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
        ({"Cache-Control": 'MAX-AGE="120"'}, 120),
        ({"Cache-Control": "max-age=0"}, 60),
        ({"Cache-Control": "max-age=86400"}, 3600),
        ({"Cache-Control": "s-maxage=900"}, 300),
        ({"Cache-Control": "max-age=-5"}, 300),
        ({"Cache-Control": "max-age=soon"}, 300),
        ({}, 300),
    ],
)
async def test_the_ttl_is_the_max_age_within_bounds(
    headers: dict[str, str], ttl: float, pairs: list[KeyPair]
) -> None:
    answer = httpx2.MockTransport(
        lambda _: httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers=headers)
    )
    async with JwksCache("https://issuer.test", jwks_url="https://issuer.test/k", transport=answer) as cache:
        keys = await cache.refetched()
    assert keys.ttl == ttl


# What is fetched, and from where


async def test_an_unchanged_document_is_not_sent_again(
    cache: JwksCache, issuer: InProcessIssuer, clock: Any, events: Events
) -> None:
    async with cache:
        first = await cache.refetched()
        clock.advance(200)
        await cache.refresh()
        second = cache.usable
    assert second is not None
    assert events[-1][0] is Event.NOT_MODIFIED
    assert second.by_kid is first.by_kid
    assert second.fetched_at == first.fetched_at + 200
    assert issuer.requests.count(JWKS_PATH) == 2


async def test_a_fetch_asks_for_plain_json_and_brings_nothing_along(pairs: list[KeyPair]) -> None:
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
async def test_an_etag_that_is_none_is_not_sent_back(etag: str, pairs: list[KeyPair]) -> None:
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("if-none-match"))
        return httpx2.Response(200, json={"keys": [pairs[0].jwk]}, headers={"ETag": etag})

    transport = httpx2.MockTransport(answer)
    async with JwksCache("https://i.test", jwks_url="https://i.test/k", transport=transport) as cache:
        await cache.refetched()
        await cache.refresh()
    assert asked == [None, None]


async def test_keys_that_moved_are_found_again_after_a_failure_and_without_the_old_etag(
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


def drip(body: bytes) -> Callable[..., Any]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body)
        while not writer.is_closing():  # each byte comes before any timeout per read
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    return answer


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        await writer.drain()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"keys": [')


def many(jwk: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**jwk, "kid": f"k{number}"} for number in range(MAX_KEYS + 1)]


BAD_ANSWERS: dict[str, Callable[[Callable[..., bytes], str], Any]] = {
    "redirect": lambda http, jwks: http(jwks.encode(), "Location: /good", status="302 Found"),
    "permanent redirect": lambda http, _: http(b"", "Location: /good", status="308 Permanent Redirect"),
    "not found": lambda http, jwks: http(jwks.encode(), status="404 Not Found"),
    "server error": lambda http, jwks: http(jwks.encode(), status="500 Oops"),
    "no content": lambda http, _: http(b"", status="204 No Content"),
    "partial content": lambda http, jwks: http(jwks.encode(), status="206 Partial Content"),
    "304 unasked for": lambda http, _: http(b"", status="304 Not Modified"),
    "oversize": lambda http, jwks: http(jwks.encode() + b" " * MAX_BODY),
    "gzip bomb": lambda http, _: http(gzip.compress(b" " * 50_000_000, 1)[:60000], "Content-Encoding: gzip"),
    "compressed": lambda http, jwks: http(gzip.compress(jwks.encode()), "Content-Encoding: gzip"),
    "a page": lambda http, _: http(b"<html>Log in to the network</html>", "Content-Type: text/html"),
    "an array": lambda http, jwks: http(f"[{jwks}]".encode()),
    "keys no list": lambda http, _: http(b'{"keys": {"kid": 1}}'),
    "keys absent": lambda http, _: http(b"{}"),
    "no keys": lambda http, _: http(b'{"keys": []}'),
    "too many keys": lambda http, jwks: http(
        json.dumps({"keys": many(json.loads(jwks)["keys"][0])}).encode()
    ),
    "no usable key": lambda http, _: http(b'{"keys": [null, 1, {}, {"kty": "RSA"}]}'),
    "keys twice": lambda http, jwks: http(b'{"keys": [], ' + jwks[1:].encode()),
    "not UTF-8": lambda http, jwks: http(jwks.encode("utf-16")),
    "nested deep": lambda http, _: http(b"[" * 60_000),
    "empty": lambda http, _: http(b""),
    "not HTTP": lambda *_: b"220 smtp.test ESMTP\r\n",
    "drip": lambda *_: drip(b""),
    "drip after a whole document": lambda _, jwks: drip(jwks.encode()),
    "hang": lambda *_: hang,
    "endless": lambda *_: endless,
    "reset in the body": lambda *_: reset,
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_leaves_the_old_keys_in_place(
    name: str,
    scripted: Callable[[], Any],
    answering: Callable[..., bytes],
    pairs: list[KeyPair],
) -> None:
    seen: list[Event] = []
    jwks = json.dumps({"keys": [pairs[0].jwk]})
    async with scripted().serving() as server:
        server.answer = answering(jwks.encode())
        cache = JwksCache(
            server.url,
            jwks_url=f"{server.url}/jwks",
            timings=Timings(fetch_deadline=0.3, backoff_first=3600, backoff_last=3600),
            on_event=lambda event, _: seen.append(event),
        )
        async with cache:
            before = await cache.refetched()
            server.answer = BAD_ANSWERS[name](answering, jwks)
            async with asyncio.timeout(2):
                await cache.refresh()
            assert cache.usable is before
        assert seen[-1] is Event.FETCH_FAILED
        assert server.paths == ["/jwks", "/jwks"]  # and nothing that an answer pointed to


async def test_neither_a_proxy_nor_a_netrc_of_the_environment_is_used(
    scripted: Callable[[], Any],
    answering: Callable[..., bytes],
    pairs: list[KeyPair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with scripted().serving() as server:
        server.answer = answering(json.dumps({"keys": [pairs[0].jwk]}).encode())
        async with JwksCache(server.url, jwks_url=f"{server.url}/jwks") as cache:
            assert (await cache.refetched()).by_kid


async def test_one_bad_key_among_good_ones_disturbs_nobody(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Any, pairs: list[KeyPair], events: Events
) -> None:
    class Member:
        def __init__(self, jwk: Any) -> None:
            self.jwk = jwk

    bad = [None, 7, [], {"kty": []}, {**pairs[1].jwk, "use": "enc"}, {**pairs[2].jwk, "kid": 5}]
    issuer.keys = [*map(Member, bad), pairs[0]]  # type: ignore[list-item]
    async with verifier.cache:
        await verifier.verify(forge.token())
    assert count(events, Event.KEY_SKIPPED) == len(bad)


async def test_two_keys_of_one_kid_are_both_dropped(
    cache: JwksCache, issuer: InProcessIssuer, pairs: list[KeyPair], events: Events
) -> None:
    impostor = KeyPair(pairs[2].private)
    impostor.jwk["kid"] = pairs[1].kid
    issuer.keys = [pairs[0], pairs[1], impostor]
    async with cache:
        assert set((await cache.refetched()).by_kid) == {pairs[0].kid}
    assert count(events, Event.KEY_SKIPPED) == 1


def public(private: Any, algorithm: Any, **changes: Any) -> dict[str, Any]:
    jwk = {**algorithm.to_jwk(private.public_key(), as_dict=True), "kid": "k", **changes}
    jwk.pop("key_ops", None)
    return jwk


UNUSABLE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "private members": lambda jwk: {**jwk, "d": "AQAB"},
    "for encryption": lambda jwk: {**jwk, "use": "enc"},
    "for other operations": lambda jwk: {**jwk, "key_ops": ["encrypt"]},
    "of another algorithm": lambda jwk: {**jwk, "alg": "RS512"},
    "symmetric": lambda jwk: {**jwk, "kty": "oct", "k": "AQAB"},
    "without kid": lambda jwk: {k: v for k, v in jwk.items() if k != "kid"},
    "with a kid of control characters": lambda jwk: {**jwk, "kid": "a\nb"},
    "without n": lambda jwk: {k: v for k, v in jwk.items() if k != "n"},
    "with a number for n": lambda jwk: {**jwk, "n": 5},
    "with a huge n": lambda jwk: {**jwk, "n": jwk["n"] * 40},
    "with e = 3": lambda jwk: {**jwk, "e": "Aw"},
    "with e = 1": lambda jwk: {**jwk, "e": "AQ"},
    "of 1024 bits": lambda jwk: {**jwk, "n": jwk["n"][:171]},
}


def of_infineon(bits: int) -> int:
    """Return a modulus as the generator of CVE-2017-15361 made them: each prime a power of 65537 modulo M."""
    product = math.prod(n for n in range(2, 702) if all(n % divisor for divisor in range(2, n)))
    primes: list[int] = []
    number = 3 << bits // 2 - 2
    number += pow(65537, 12345, product) - number % product
    while len(primes) < 2:
        number += product
        if pow(2, number - 1, number) == 1:
            primes.append(number)
            number += product << 20
    return math.prod(primes)


@pytest.mark.parametrize(
    ("name", "modulus"),
    [
        ("the pattern of CVE-2017-15361", lambda _: of_infineon(2048)),
        ("even", lambda n: n - 1),
        ("divisible by 3", lambda n: n // 6 * 6 + 3),
        ("of 2047 bits", lambda n: (n | 1 << 2046) % (1 << 2047)),
        ("of 8200 bits", lambda n: n | 1 << 8199),
    ],
)
async def test_a_weak_modulus_is_refused_beside_a_good_one_that_goes_on_working(
    name: str, modulus: Callable[[int], int], pairs: list[KeyPair], events: Events
) -> None:
    bad = modulus(pairs[1].private.public_key().public_numbers().n)
    jwk = {**pairs[1].jwk, "n": jwt.utils.to_base64url_uint(bad).decode()}
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": [jwk, pairs[0].jwk]}))
    listen = lambda event, detail: events.append((event, detail))  # noqa: E731 - two lines of it
    url = "https://i.test/jwks"
    async with JwksCache("https://i.test", jwks_url=url, transport=answer, on_event=listen) as cache:
        assert set((await cache.refetched()).by_kid) == {pairs[0].kid}
    assert count(events, Event.KEY_SKIPPED) == 1


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
async def test_an_unfit_key_is_not_imported(
    change: Callable[[dict[str, Any]], dict[str, Any]], pairs: list[KeyPair]
) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, jwt.PyJWTError)):
        import_key(change(dict(pairs[0].jwk)), ["RS256"])


@pytest.mark.parametrize(
    ("alg", "private", "algorithm"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048), RSAAlgorithm),
        ("PS256", rsa.generate_private_key(65537, 3072), RSAAlgorithm),
        ("ES256", ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
    ],
)
@pytest.mark.parametrize("named", [True, False])
async def test_keys_of_every_configured_algorithm_verify_their_own_tokens_alone(
    alg: str, private: Any, algorithm: Any, *, named: bool
) -> None:
    jwk = public(private, algorithm, **({"alg": alg} if named else {}))
    key = import_key(jwk, [alg])
    signer = jwt.get_algorithm_by_name(alg)
    signature = signer.sign(b"payload", private)
    assert key.Algorithm.verify(b"payload", key.key, signature)
    for wrong in (signature[:-1], signature + b"\0", b"\0" + signature, b""):
        assert not key.Algorithm.verify(b"payload", key.key, wrong)
    assert not key.Algorithm.verify(b"another", key.key, signature)
    with pytest.raises(ValueError, match="another algorithm"):
        import_key(jwk, ["ES256" if alg == "EdDSA" else "EdDSA"])


async def test_a_key_verifies_no_token_that_names_another_algorithm(
    issuer: InProcessIssuer, clock: Any, forge: Any
) -> None:
    async with JwksCache(issuer.url, transport=issuer.transport, algorithms=["PS256", "RS256"]) as cache:
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
        await verifier.verify(forge.token())
        with pytest.raises(InvalidToken):
            await verifier.verify(forge.token({"alg": "PS256"}))


# Discovery


def metadata(documents: dict[str, Any]) -> tuple[httpx2.MockTransport, list[str]]:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        document = documents.get(str(request.url))
        return httpx2.Response(404) if document is None else httpx2.Response(200, json=document)

    return httpx2.MockTransport(answer), asked


OAUTH = "https://i.test/.well-known/oauth-authorization-server"
OPENID = "https://i.test/.well-known/openid-configuration"
GOOD = {"issuer": "https://i.test", "jwks_uri": "https://keys.test/jwks"}


@pytest.mark.parametrize(
    ("issuer_url", "documents"),
    [
        ("https://i.test", {OAUTH: GOOD}),
        ("https://i.test", {OPENID: GOOD}),
        ("https://i.test", {OAUTH: {**GOOD, "issuer": "https://evil.test"}, OPENID: GOOD}),
        ("https://i.test/a", {OAUTH + "/a": {**GOOD, "issuer": "https://i.test/a"}}),
        (
            "https://i.test/a",
            {"https://i.test/a/.well-known/openid-configuration": {**GOOD, "issuer": "https://i.test/a"}},
        ),
    ],
)
async def test_the_keys_are_found_by_discovery(
    issuer_url: str, documents: dict[str, Any], pairs: list[KeyPair]
) -> None:
    transport, _ = metadata({**documents, GOOD["jwks_uri"]: {"keys": [pairs[0].jwk]}})
    async with JwksCache(issuer_url, transport=transport) as cache:
        assert set((await cache.refetched()).by_kid) == {pairs[0].kid}


@pytest.mark.parametrize(
    "document",
    [
        {**GOOD, "issuer": "https://i.test/"},
        {**GOOD, "issuer": "https://evil.test"},
        {"jwks_uri": GOOD["jwks_uri"]},
        {"issuer": GOOD["issuer"]},
        {**GOOD, "jwks_uri": 5},
        {**GOOD, "jwks_uri": "http://keys.test/jwks"},
        {**GOOD, "jwks_uri": "http://127.0.0.1/jwks"},
        {**GOOD, "jwks_uri": "file:///etc/passwd"},
        {**GOOD, "jwks_uri": "https://user:password@keys.test/jwks"},
        {**GOOD, "jwks_uri": "https://"},
        {**GOOD, "jwks_uri": "https://[::"},
        {**GOOD, "jwks_uri": "/jwks"},
        [GOOD],
    ],
)
async def test_a_discovery_document_that_does_not_fit_leads_nowhere(document: Any, events: Events) -> None:
    transport, asked = metadata({OAUTH: document})
    listen = lambda event, detail: events.append((event, detail))  # noqa: E731 - two lines of it
    async with JwksCache("https://i.test", transport=transport, on_event=listen) as cache:
        await cache.refresh()
        assert cache.state is State.EMPTY
    assert asked == [OAUTH, OPENID]
    assert events[0][0] is Event.FETCH_FAILED


@pytest.mark.parametrize(
    "url", ["http://issuer.test", "http://10.0.0.1", "ftp://i.test", "issuer", "", "https://u@i"]
)
async def test_an_unfit_issuer_url_is_refused_when_made(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        JwksCache(url)
    with pytest.raises(ValueError, match="URL"):
        JwksCache("https://issuer.test", jwks_url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:1", "https://issuer.test"]
)
async def test_plain_http_is_for_this_machine_unless_asked_for(url: str) -> None:
    JwksCache(url)
    JwksCache("http://issuer.test", allow_http=True)


# Shutdown


@pytest.mark.parametrize("answer", [hang, drip(b""), endless])
async def test_a_stop_during_a_fetch_takes_less_than_a_second(
    answer: Any, scripted: Callable[[], Any], recwarn: pytest.WarningsRecorder
) -> None:
    async with scripted().serving() as server:
        asked = asyncio.Event()

        async def note_and_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await answer(reader, writer)

        server.answer = note_and_answer
        cache = JwksCache(server.url)
        async with cache:
            fetch = cache.refresh()
            await asked.wait()
            began = time.perf_counter()
        assert time.perf_counter() - began < 1
        assert fetch.done()
    assert not recwarn.list


async def test_a_stopped_cache_starts_again(verifier: TokenVerifier, forge: Any) -> None:
    for _ in range(2):
        async with verifier.cache:
            await verifier.verify(forge.token())


async def test_a_floor_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="floor"):
        Timings(ttl_floor=0)
