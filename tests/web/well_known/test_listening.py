"""Listeners: requests for the JWKS with `Prefer: wait`, RFC 7240.

Real servers, and listeners in numbers, are tested in `servers/test_listening`.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.types import Message
from support.defaults import MovableClock
from support.servers import eventually

from issuer.services import Issuer
from issuer.web.operation import background
from issuer.web.well_known.listening import LISTENERS_MOST, Listeners, requested_wait

PATH = "/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (["wait=25"], 25),
        (["WAIT = 25"], 25),
        (['wait="25"'], 25),
        (["wait=25; of=any; kind"], 25),
        (["wait=31"], 30),
        (["wait=999999999"], 30),
        (["respond-async, wait=7"], 7),
        (["respond-async", "wait=7", "wait=9"], 7),
        (['note="a, wait=3", wait=7'], 7),
        (['note="a \\" , wait=3", wait=7'], 7),
        (["wait=x, wait=7"], 0),
        (["wait=0"], 0),
        (["wait=-1"], 0),
        (["wait=1.5"], 0),
        (["wait=9999999999"], 0),
        (["wait=٣"], 0),
        (["wait"], 0),
        (["wait="], 0),
        (["await=5"], 0),
        (["wait=5 6"], 0),
        (['wait="5'], 0),
        (['"wait=5"'], 0),
        ([",;=,,"], 0),
        ([""], 0),
        ([], 0),
        (["x" * 1024 + ", wait=5"], 0),
    ],
)
def test_the_first_preference_to_wait_counts_and_anything_malformed_is_none(
    sent: list[str], seconds: int
) -> None:
    headers = [(b"prefer", value.encode()) for value in sent]
    assert requested_wait(Request({"type": "http", "headers": headers})) == seconds


# Requests


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Client:
    """Asks for the JWKS with the ETag of the set as it is."""

    def __init__(self, web: TestClient, pool: ThreadPoolExecutor) -> None:
        self._web, self._pool = web, pool
        self.etag = web.get(PATH).headers["etag"]
        self.listeners: Listeners = web.app.state.listeners  # type: ignore[attr-defined]

    def ask(self, **headers: str) -> httpx2.Response:
        sent = {"If-None-Match": self.etag, "Prefer": "wait=30", **headers}
        return self._web.get(PATH, headers={name.replace("_", "-"): sent[name] for name in sent})

    def listen(self) -> "Future[httpx2.Response]":
        """Return the answer to come, once the request waits."""
        count = len(self.listeners)
        answer = self._pool.submit(self.ask)
        eventually(lambda: len(self.listeners) > count, "it waits")
        return answer


@pytest.fixture
def client(web: TestClient, pool: ThreadPoolExecutor) -> Client:
    return Client(web, pool)


def rotate(issuer: Issuer) -> None:
    issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now))


def test_listeners_are_answered_with_another_set_as_soon_as_the_process_has_it(
    client: Client, issuer: Issuer
) -> None:
    answers = [client.listen() for _ in range(5)]
    rotate(issuer)
    for answer in (each.result() for each in answers):
        assert (answer.status_code, len(answer.json()["keys"])) == (200, 3)
        assert answer.headers["etag"] != client.etag
        assert answer.headers["preference-applied"] == "wait=30"
        assert answer.headers["cache-control"] == "public, max-age=300"
    assert len(client.listeners) == 0


@pytest.fixture
def rarely_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes look for a change as often as they do, and refresh without one once an hour."""
    monkeypatch.setattr(background, "REFRESH_INTERVAL", timedelta(hours=1))
    monkeypatch.setattr(background, "LOOKS", 4 * 3600)


@pytest.mark.usefixtures("rarely_refreshed")
def test_while_there_are_listeners_a_change_is_seen_before_the_next_refresh(
    client: Client, issuer: Issuer
) -> None:
    answer = client.listen()
    rotate(issuer)
    assert answer.result().status_code == 200


def test_without_a_change_a_listener_gets_304_when_its_time_is_over_and_others_continue_to_wait(
    client: Client, issuer: Issuer
) -> None:
    patient = client.listen()
    answer = client.ask(Prefer="wait=1")
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.headers["etag"] == client.etag
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert not patient.done()
    rotate(issuer)
    assert patient.result().status_code == 200


def test_the_access_log_has_the_wait_as_a_number_of_its_own(
    logged: Callable[[], str], client: Client
) -> None:
    for seconds in (1, 0):
        client.ask(Prefer=f"wait={seconds}")
    lines = [json.loads(line) for line in logged().splitlines() if PATH in line]
    waited, at_once = lines[-2:]
    assert waited["waited_milliseconds"] > 0
    assert waited["milliseconds"] >= 0
    assert "waited_milliseconds" not in at_once


def test_a_key_whose_retention_ends_is_a_change_although_no_one_acts(
    client: Client, issuer: Issuer, clock: MovableClock
) -> None:
    rotate(issuer)
    issuer.keys.node.refresh()
    client.etag = client.ask(If_None_Match="none").headers["etag"]
    (previous,) = issuer.keys.rotation.ring().keys[:1]
    answer = client.listen()
    clock.advance(seconds=issuer.policy.retention.total_seconds() + 1)
    kids = [key["kid"] for key in answer.result().json()["keys"]]
    assert previous.kid not in kids


def test_when_the_set_may_not_be_served_any_more_listeners_are_told(
    client: Client, clock: MovableClock, tmp_path: Path
) -> None:
    answer = client.listen()
    (tmp_path / "issuer.db").rename(tmp_path / "away.db")  # so that the key ring cannot be read
    clock.advance(days=1)
    assert answer.result().status_code == 503
    assert answer.result().headers["vary"] == "Prefer"
    assert client.ask().status_code == 503
    assert len(client.listeners) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": '"another"'},
        {"If_None_Match": ""},
        {"If_None_Match": "*"},
        {"Prefer": "wait=0"},
        {"Prefer": "respond-async"},
    ],
    ids=str,
)
def test_without_the_etag_of_the_set_or_a_time_the_answer_comes_at_once(
    client: Client, headers: dict[str, str]
) -> None:
    answer = client.ask(**headers)
    assert "preference-applied" not in answer.headers
    assert answer.headers["vary"] == "Prefer"


def test_a_weak_etag_and_one_of_several_are_waited_for(client: Client) -> None:
    answer = client.ask(If_None_Match=f'"other", W/{client.etag}', Prefer="wait=1")
    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")


def test_head_is_answered_at_once(client: Client, web: TestClient) -> None:
    answer = web.head(PATH, headers={"If-None-Match": client.etag, "Prefer": "wait=30"})
    assert (answer.status_code, "preference-applied" in answer.headers) == (304, False)


def test_listeners_leave_connections_for_others(client: Client, issuer: Issuer) -> None:
    client.listeners.leave_room(4)
    answers = [client.listen() for _ in range(3)]
    refused = client.ask()
    assert (refused.status_code, "preference-applied" in refused.headers) == (304, False)
    assert client.ask(Prefer="").status_code == 304
    rotate(issuer)
    assert {answer.result().status_code for answer in answers} == {200}


def test_when_the_process_stops_listeners_are_answered_and_none_waits_any_more(client: Client) -> None:
    answer = client.listen()
    client.listeners.stop()
    for each in (answer.result(), client.ask()):
        assert (each.status_code, "preference-applied" in each.headers) == (304, False)


# In process


class Waiting:
    """Listeners of a set that tests change."""

    def __init__(self) -> None:
        self.etag: str | None = '"a"'
        self.counts: list[int] = []
        self.listeners = Listeners(lambda: self.etag, self.counts.append)

    def begin(self, disconnected: asyncio.Event | None = None, seconds: float = 3600) -> "asyncio.Task[bool]":
        gone = disconnected or asyncio.Event()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        return asyncio.create_task(self.listeners.wait(seconds, receive))


@pytest.mark.anyio
async def test_all_listeners_share_one_timer_and_are_answered_in_steps_between_which_others_run() -> None:
    waiting = Waiting()
    tasks = [waiting.begin() for _ in range(1000)]
    await asyncio.sleep(0)
    assert len(waiting.listeners) == 1000
    waiting.etag = '"b"'
    waiting.listeners.look()
    assert len(waiting.listeners) == 0
    done = []
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in tasks))
    assert len(done) > 20
    assert {task.result() for task in tasks} == {True}
    assert waiting.counts[-1] == 0


@pytest.mark.anyio
async def test_a_listener_whose_client_disconnects_waits_no_longer() -> None:
    waiting, gone = Waiting(), asyncio.Event()
    leaving, staying = waiting.begin(gone), waiting.begin()
    await asyncio.sleep(0)
    gone.set()
    assert not await leaving
    assert (len(waiting.listeners), staying.done()) == (1, False)
    staying.cancel()
    await asyncio.wait({staying})
    assert len(waiting.listeners) == 0


@pytest.mark.anyio
async def test_who_begins_to_listen_after_an_unnoticed_change_is_not_answered_by_it() -> None:
    waiting = Waiting()
    before = waiting.begin()
    await asyncio.sleep(0)
    waiting.etag = '"b"'
    after = waiting.begin()
    assert await before
    assert not after.done()
    waiting.listeners.stop()
    assert not await after


@pytest.mark.anyio
async def test_no_process_takes_more_listeners_than_leave_connections_for_others() -> None:
    waiting = Waiting()
    waiting.listeners.leave_room(1_000_000)
    tasks = [waiting.begin() for _ in range(LISTENERS_MOST)]
    await asyncio.sleep(0)
    assert not await waiting.begin()
    waiting.listeners.stop()
    await asyncio.wait(tasks)
