"""The fast path below FastAPI's routing: the same responses as above it, without delaying others."""

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp
from support.defaults import ALICE, MovableClock

from issuer.administration.clients import register_client, renew_secret
from issuer.blocking import WouldBlock, forbid_blocking, require_blocking_allowed
from issuer.clients.client import Client
from issuer.clients.store import MEMORY, ClientStore
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.web.http.fast_path import FastPath

TOKEN, KEYS = "/oauth2/token", "/.well-known/jwks.json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def machine(issuer: Issuer) -> Mapping[str, str]:
    """The form of a token request by a client that exists."""
    made = register_client(
        issuer.clients.store, "m", AuthMethod.POST, frozenset({"items:read"}), (), issuer.clock()
    )
    client, secret = made
    return {"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret or ""}


def _direct(app: ASGIApp | None) -> FastPath:
    while not isinstance(app, FastPath):
        app = vars(app)["_app"]
    return app


@pytest.fixture
def routed(web: TestClient) -> Iterator[TestClient]:
    """The same application with nothing served directly: FastAPI's routing finds the same functions."""
    app = web.app
    assert isinstance(app, FastAPI)
    direct = _direct(app.middleware_stack)
    endpoints, direct._endpoints = direct._endpoints, {}
    yield web
    direct._endpoints = endpoints


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", KEYS, {}),
    ("GET", KEYS, {"headers": {"If-None-Match": "*"}}),
    ("GET", KEYS, {"headers": {"Origin": "https://app.example"}}),
    ("HEAD", KEYS, {}),
    ("POST", KEYS, {}),
    ("GET", TOKEN, {}),
    ("POST", TOKEN, {}),
    ("POST", TOKEN, {"json": {"grant_type": "client_credentials"}}),
    ("POST", TOKEN, {"data": {"grant_type": "unheard-of"}}),
    ("POST", TOKEN, {"data": {"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}}),
    ("POST", TOKEN, {"data": {"grant_type": "refresh_token", "client_id": "first-party"}}),
    ("POST", TOKEN, {"data": {"grant_type": "password", **ALICE, "client_id": "first-party"}}),
    ("POST", TOKEN, {"content": b"a=1&a=2", "headers": {"Content-Type": FORM}}),
    ("POST", TOKEN, {"content": b"%ff=%ff", "headers": {"Content-Type": FORM}}),
    ("POST", TOKEN, {"content": b"x" * 70_000, "headers": {"Content-Type": FORM}}),
    ("POST", TOKEN, {"content": b"", "headers": {"Content-Type": FORM, "Content-Length": "9" * 40}}),
]


def _answer(web: TestClient, method: str, path: str, options: dict[str, Any]) -> tuple[Any, ...]:
    answer = web.request(method, path, **options)
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "vary"}}
    body = answer.json() if answer.content else {}
    varying = {"access_token", "refresh_token"}
    return answer.status_code, headers, {name: body[name] for name in body.keys() - varying}


@pytest.mark.parametrize(("method", "path", "options"), REQUESTS)
def test_an_endpoint_answers_directly_as_it_does_behind_the_routing(
    web: TestClient,
    request: pytest.FixtureRequest,
    alice: str,
    method: str,
    path: str,
    options: dict[str, Any],
) -> None:
    directly = _answer(web, method, path, options)
    routed: TestClient = request.getfixturevalue("routed")
    assert directly == _answer(routed, method, path, options)
    assert directly[0] != 500


@pytest.fixture
def looked_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads on which a client was looked up."""
    threads: list[str] = []
    by_id = issuer.clients.store.by_id

    def recorded(client_id: str, now: datetime | None = None) -> Client | None:
        client = by_id(client_id, now)
        threads.append(threading.current_thread().name)
        return client

    monkeypatch.setattr(issuer.clients.store, "by_id", recorded)
    return threads


def test_a_client_that_repeats_a_request_within_a_second_is_answered_without_another_thread(
    web: TestClient, machine: Mapping[str, str], looked_up: list[str]
) -> None:
    for _ in range(3):
        assert web.post(TOKEN, data=machine).is_success
    assert ["AnyIO worker thread" in name for name in looked_up] == [True]


def test_one_of_several_later_requests_looks_the_client_up_for_all(
    web: TestClient, machine: Mapping[str, str], looked_up: list[str], clock: MovableClock
) -> None:
    for _ in range(3):
        assert web.post(TOKEN, data=machine).is_success
        clock.advance(seconds=MEMORY.total_seconds() / 4)
    assert len(looked_up) == 2


def test_while_one_looks_a_machine_up_again_the_others_do_not_wait_for_it(
    web: TestClient, issuer: Issuer, machine: Mapping[str, str], clock: MovableClock
) -> None:
    assert web.post(TOKEN, data=machine).is_success
    clock.advance(seconds=MEMORY.total_seconds() / 2)
    with forbid_blocking():
        answers = [issuer.clients.store.recent(machine["client_id"], clock()) for _ in range(3)]
    assert [answer is None for answer in answers] == [True, False, False]


def test_a_client_disabled_by_another_process_is_refused_within_the_second(
    web: TestClient, issuer: Issuer, machine: Mapping[str, str], clock: MovableClock
) -> None:
    assert web.post(TOKEN, data=machine).is_success
    ClientStore(issuer.database).set_disabled(machine["client_id"], clock())
    clock.advance(seconds=MEMORY.total_seconds())
    assert web.post(TOKEN, data=machine).status_code == 401


def test_a_client_disabled_by_the_same_process_is_refused_at_once(
    web: TestClient, issuer: Issuer, machine: Mapping[str, str], clock: MovableClock
) -> None:
    assert web.post(TOKEN, data=machine).is_success
    issuer.clients.store.set_disabled(machine["client_id"], clock())
    assert web.post(TOKEN, data=machine).status_code == 401


def test_a_refusal_always_follows_the_current_database(
    web: TestClient, issuer: Issuer, machine: Mapping[str, str], clock: MovableClock
) -> None:
    assert web.post(TOKEN, data=machine).is_success
    elsewhere = ClientStore(issuer.database)
    client = elsewhere.by_id(machine["client_id"])
    assert client is not None
    _, secret = renew_secret(elsewhere, client, timedelta(0), clock())
    assert web.post(TOKEN, data={**machine, "client_secret": secret}).is_success


def test_a_clock_set_back_does_not_keep_a_client_in(
    web: TestClient, issuer: Issuer, machine: Mapping[str, str], clock: MovableClock
) -> None:
    assert web.post(TOKEN, data=machine).is_success
    ClientStore(issuer.database).set_disabled(machine["client_id"], clock())
    clock.advance(seconds=-5)
    assert web.post(TOKEN, data=machine).status_code == 401


def test_many_clients_do_not_fill_the_memory(issuer: Issuer, machine: Mapping[str, str]) -> None:
    now = issuer.clock()
    for _ in range(3):
        issuer.clients.store.by_id(machine["client_id"], now)
    issuer.clients.store._seen.update(
        {str(number): issuer.clients.store._seen[machine["client_id"]] for number in range(2000)}
    )
    issuer.clients.store.by_id(machine["client_id"], now)
    assert len(issuer.clients.store._seen) == 1


def test_a_blocking_call_is_stopped_on_a_thread_that_must_not_block(issuer: Issuer) -> None:
    with forbid_blocking(), pytest.raises(WouldBlock):
        issuer.clients.store.by_id("anybody")
    require_blocking_allowed()
    assert issuer.clients.store.by_id("anybody") is None


def test_handling_failures_does_not_swallow_that_something_would_wait() -> None:
    assert not issubclass(WouldBlock, Exception)
