"""Listening: a new key set takes effect at once; where nobody lets the verifier wait, it refreshes by age as before.

With the issuer itself, through proxies, it is tested in `servers/test_listening_verifiers`.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import httpx2
import pytest
from support.servers import PATIENCE_SECONDS
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import (
    Event,
    InvalidToken,
    JwksCache,
    Reason,
    State,
    SyncTokenVerifier,
    Timings,
    TokenVerifier,
)
from jwks_verifier.http_client import HttpClient
from jwks_verifier.key_set import Instant, KeySet
from jwks_verifier.listening import LAG, WAIT_LEAST, WAIT_MOST, KeySetListener
from jwks_verifier.testing import METADATA_PATHS, InProcessIssuer, KeyPair

pytestmark = pytest.mark.anyio
Events = list[tuple[Event, str]]
QUICK = Timings(backoff_first=0.001, backoff_last=0.001)


@dataclass(eq=False)
class PatientIssuer(httpx2.AsyncBaseTransport):
    """An issuer that lets verifiers wait until the test changes its keys or ends their wait."""

    keys: list[KeyPair]
    url: str = "https://issuer.test"
    max_age: int = 300
    grants: bool = True
    open: int = 0
    """How many requests wait now, and at most did."""
    most_open: int = 0
    waits: list[str] = field(default_factory=list)
    ordinary: int = 0
    """How many requests for the keys did not ask to wait."""
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)
    turn: int = 0
    fails: bool = False
    on_its_way: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while ordinary answers arrive."""

    def __post_init__(self) -> None:
        self.on_its_way.set()

    async def change(self, *keys: KeyPair) -> None:
        """Publish other keys, and answer who waits."""
        async with self.moved:
            self.keys = list(keys)
            self.turn += 1
            self.moved.notify_all()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something happened at the issuer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not happened():  # noqa: ASYNC110 - anything may happen
                await asyncio.sleep(0.001)

    async def until_asked_more_than(self, count: int) -> None:
        await self.until(lambda: self.open == 1 and len(self.waits) > count)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path in METADATA_PATHS:
            return httpx2.Response(200, json={"issuer": self.url, "jwks_uri": f"{self.url}/jwks"})
        wait = request.headers.get("prefer", "")
        if not wait:
            self.ordinary += 1
            response = self._response(request)
            await self.on_its_way.wait()
            return response
        self.waits.append(wait)
        applied = {}
        if self.grants and request.headers.get("if-none-match") == self._etag():
            applied = {"Preference-Applied": wait}
            await self._wait()
        if self.fails:
            raise httpx2.ReadError("cut", request=request)
        return self._response(request, applied)

    async def _wait(self) -> None:
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        turn = self.turn
        try:
            async with self.moved:
                await self.moved.wait_for(lambda: self.turn > turn)
        finally:
            self.open -= 1

    def _body(self) -> bytes:
        return json.dumps({"keys": [key.jwk for key in self.keys]}).encode()

    def _etag(self) -> str:
        return f'"{hashlib.sha256(self._body()).hexdigest()}"'

    def _response(self, request: httpx2.Request, applied: dict[str, str] | None = None) -> httpx2.Response:
        headers = {"ETag": self._etag(), "Cache-Control": f"max-age={self.max_age}", **(applied or {})}
        if request.headers.get("if-none-match") == self._etag():
            return httpx2.Response(304, headers=headers)
        return httpx2.Response(200, content=self._body(), headers=headers)


@pytest.fixture
def patient(pairs: list[KeyPair]) -> PatientIssuer:
    return PatientIssuer(pairs[:1])


def listening(
    patient: PatientIssuer, events: Events, clock: Clock | None = None, timings: Timings = QUICK
) -> JwksCache:
    clock = clock or Clock()
    return JwksCache(
        patient.url,
        transport=patient,
        timings=timings,
        listen=True,
        monotonic=clock.monotonic,
        on_event=lambda event, detail: events.append((event, detail)),
    )


async def test_a_new_key_set_takes_effect_at_once_and_a_revoked_key_is_refused(
    patient: PatientIssuer, events: Events, pairs: list[KeyPair], clock: Clock
) -> None:
    old, new = (Forge(InProcessIssuer(keys=[pair]), pairs[3]) for pair in pairs[:2])
    verifier = TokenVerifier(listening(patient, events, clock), AUDIENCE, wall=clock.wall)
    async with verifier:
        assert (await verifier.verify(old.token())).subject == "u1"
        await patient.until(lambda: patient.open == 1)
        await patient.change(pairs[1])
        await patient.until(lambda: (Event.KEY_REMOVED, pairs[0].kid) in events)
        with pytest.raises(InvalidToken) as refusal:
            await verifier.verify(old.token())
        assert refusal.value.reason is Reason.UNKNOWN_KEY
        assert (await verifier.verify(new.token())).subject == "u1"
        await patient.until(lambda: patient.open == 1)
    assert (patient.ordinary, patient.most_open, patient.open) == (1, 1, 0)


async def test_it_asks_for_less_than_half_a_minute_and_never_for_longer_than_the_keys_are_fresh(
    patient: PatientIssuer, events: Events
) -> None:
    for max_age, bounds in ((300, (WAIT_LEAST, WAIT_MOST)), (60, (WAIT_LEAST, 22)), (4, (1, 1))):
        patient.max_age, patient.waits = max_age, []
        async with listening(patient, events, timings=replace(QUICK, ttl_floor=1)):
            await patient.until(lambda: patient.open == 1)
        (asked,) = patient.waits
        assert bounds[0] <= int(asked.removeprefix("wait=")) <= bounds[1]


async def test_keys_that_are_fresh_for_two_seconds_are_only_refreshed(
    patient: PatientIssuer, events: Events
) -> None:
    patient.max_age = 2
    async with listening(patient, events, timings=replace(QUICK, ttl_floor=0.01, ttl_ceiling=0.01)):
        await patient.until(lambda: patient.ordinary > 3)
    assert patient.waits == []


async def test_without_being_told_to_it_does_not_listen(patient: PatientIssuer) -> None:
    cache = JwksCache(patient.url, transport=patient, timings=Timings(ttl_floor=0.01, ttl_ceiling=0.01))
    async with cache:
        await patient.until(lambda: patient.ordinary > 3)
    assert patient.waits == []


async def test_an_unknown_kid_causes_an_ordinary_fetch_at_once_while_a_request_is_open(
    patient: PatientIssuer, events: Events, pairs: list[KeyPair], clock: Clock
) -> None:
    new = Forge(InProcessIssuer(keys=[pairs[1]]), pairs[3])
    verifier = TokenVerifier(listening(patient, events, clock), AUDIENCE, wall=clock.wall)
    async with verifier:
        await patient.until(lambda: patient.open == 1)
        patient.keys = pairs[:2]  # and nobody is told
        clock.rest(10)
        assert (await verifier.verify(new.token())).subject == "u1"
        await patient.until(lambda: len(patient.waits) == 2 and patient.open == 1)  # with the ETag of now
    assert (patient.ordinary, patient.most_open) == (2, 1)
    assert Event.LISTEN_FAILED not in [event for event, _ in events]


async def test_an_answer_counts_as_a_refresh_and_its_age_from_the_request(
    patient: PatientIssuer, events: Events, clock: Clock
) -> None:
    async with listening(patient, events, clock) as cache:
        await patient.until(lambda: patient.open == 1)
        clock.advance(25)
        await patient.change(*patient.keys)
        await patient.until(lambda: (Event.NOT_MODIFIED, f"{patient.url}/jwks") in events)
        assert cache.age == 25
        await patient.until(lambda: patient.open == 1)
        clock.advance(25)
        await patient.change(*patient.keys)
        await patient.until(lambda: len(events) == 4)
        assert cache.age == 25
        assert cache.state is State.FRESH


async def test_a_set_that_was_just_replaced_is_not_taken_from_a_process_that_lags_behind(
    patient: PatientIssuer, events: Events, pairs: list[KeyPair], clock: Clock
) -> None:
    async with listening(patient, events, clock) as cache:
        await patient.until(lambda: patient.open == 1)
        await patient.change(pairs[1])
        await patient.until(lambda: (Event.KEY_ADDED, pairs[1].kid) in events)
        await patient.change(pairs[0])  # as another process still has it
        asked = len(patient.waits)
        await patient.until(lambda: len(patient.waits) > asked + 3)
        await cache.refresh()
        assert cache.usable is not None
        assert [*cache.usable.by_kid] == [pairs[1].kid]
        clock.rest(LAG)  # then it is a rollback
        await cache.refresh()
        assert [*cache.usable.by_kid] == [pairs[0].kid]


async def test_an_ordinary_answer_that_is_older_than_what_was_heard_meanwhile_changes_nothing(
    patient: PatientIssuer, events: Events, pairs: list[KeyPair]
) -> None:
    clock = Clock()
    async with listening(patient, events, clock) as cache:
        await patient.until(lambda: patient.open == 1)
        patient.on_its_way.clear()
        fetch = cache.refresh()
        await patient.until(lambda: patient.ordinary == 2)
        await patient.change(pairs[1])
        await patient.until(lambda: (Event.KEY_ADDED, pairs[1].kid) in events)
        clock.rest(LAG)
        patient.on_its_way.set()
        await fetch
        assert cache.usable is not None
        assert [*cache.usable.by_kid] == [pairs[1].kid]


# Issuers and proxies that do not let it wait


async def pauses(
    keys: KeySet, answers: Iterable[tuple[KeySet, bool] | Exception], timings: Timings | None = None
) -> list[float]:
    """Return the pauses of a listener after answers that come at once."""
    script = iter(answers)

    class Fetcher:
        async def listen(self, *_: object) -> tuple[KeySet, bool]:
            answer = next(script)
            if isinstance(answer, Exception):
                raise answer
            return answer

    listener = KeySetListener(
        Fetcher(),  # type: ignore[arg-type]
        timings or Timings(),
        lambda: Instant(0, 0),
        lambda _event, _detail: None,
        lambda: keys,
        lambda _: None,
    )
    return [await listener._listen(keys, 20) for _ in range(20)]  # it would sleep for hours


KEYS = KeySet({}, "", Instant(0, 0), 300, '"a"')
OTHERS = [replace(KEYS, etag=f'"{number}"') for number in range(20)]


@pytest.mark.parametrize("granted", [True, False])
async def test_answers_that_come_at_once_cost_no_more_than_ordinary_refreshes_in_the_end(
    granted: bool,
) -> None:
    found = await pauses(KEYS, [(KEYS, granted)] * 20)
    assert all(0.5 <= pause <= 1 for pause in found[:1])
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(found[:8]))
    assert all(300 * 0.75 * 0.9 <= pause <= 300 * 0.75 for pause in found[9:])


async def test_a_set_that_changes_again_and_again_is_no_reason_to_hammer() -> None:
    found = await pauses(KEYS, [(each, True) for each in OTHERS])
    assert sum(found[:8]) > 100


async def test_after_failures_it_listens_again_within_a_minute() -> None:
    found = await pauses(KEYS, [ConnectionError()] * 20)
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(found[:6]))
    assert all(54 <= pause <= 60 for pause in found[7:])


async def test_who_grants_no_wait_is_asked_no_more_often_than_by_ordinary_refreshes(
    patient: PatientIssuer, events: Events
) -> None:
    patient.grants = False
    async with listening(patient, events, timings=Timings(backoff_first=3600)) as cache:
        await patient.until(lambda: len(patient.waits) == 1)
        await cache.refresh()
        await asyncio.sleep(0)
    assert (patient.ordinary, len(patient.waits)) == (2, 1)


async def test_a_cut_connection_is_reported_and_keys_stay_fresh_and_refreshed(
    patient: PatientIssuer, events: Events
) -> None:
    patient.fails = True
    async with listening(patient, events) as cache:
        await patient.until(lambda: patient.open == 1)
        for count in range(1, 4):
            await patient.change(*patient.keys)
            await patient.until_asked_more_than(count)
        assert cache.state is State.FRESH
        patient.fails = False
        await cache.refresh()
    assert [event for event, _ in events].count(Event.LISTEN_FAILED) == 3
    assert Event.FETCH_FAILED not in [event for event, _ in events]


async def test_an_answer_that_never_comes_is_given_up_after_the_wait_and_the_deadline(
    patient: PatientIssuer, events: Events
) -> None:
    patient.max_age = 4  # so that it waits for a second
    async with listening(patient, events, timings=replace(QUICK, ttl_floor=1, fetch_deadline=0.1)):
        await patient.until(lambda: any(event is Event.LISTEN_FAILED for event, _ in events))
        await patient.until(lambda: patient.open == 1)
    assert patient.most_open == 1


async def test_a_stop_closes_the_request(patient: PatientIssuer, events: Events) -> None:
    cache = listening(patient, events)
    for _ in range(2):
        async with cache:
            await patient.until(lambda: patient.open == 1)
        assert patient.open == 0


async def test_the_client_sends_the_preference_only_when_it_waits() -> None:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=b"{}")

    client = HttpClient(Timings(fetch_deadline=3), transport=httpx2.MockTransport(answer))
    await client.get("https://issuer.test")
    await client.get("https://issuer.test", '"a"', wait=25)
    assert [request.headers.get("prefer") for request in sent] == [None, "wait=25"]
    assert [request.extensions["timeout"]["read"] for request in sent] == [3, 28]


def test_a_verifier_of_threads_listens_in_its_own_thread(
    events: Events, pairs: list[KeyPair], clock: Clock
) -> None:
    issuer = InProcessIssuer(keys=pairs[:1])  # it grants no wait, and is asked for one
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("prefer", ""))
        return issuer._answer(request)

    cache = JwksCache(
        issuer.url, transport=httpx2.MockTransport(answer), listen=True, timings=QUICK, wall=clock.wall
    )
    forge = Forge(issuer, pairs[3])
    with SyncTokenVerifier(cache, AUDIENCE, wall=clock.wall) as verifier:
        assert verifier.verify(forge.token()).subject == "u1"
        asyncio.run(PatientIssuer([]).until(lambda: any(asked)))
