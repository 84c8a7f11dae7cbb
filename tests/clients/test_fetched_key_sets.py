"""Key sets that clients publish at a URL: fetching, caching, outages, and invalid key sets."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.defaults import MovableClock
from support.signing_clients import (
    OTHER,
    KeySetServer,
    RequestToken,
    assertion,
    public,
    registered,
    rejection,
    request_token,
)

from issuer.clients.key_sets import COOLDOWN, FRESH, STALE
from issuer.clients.outgoing_http import is_reachable
from issuer.services import Issuer


def test_fetched_keys_are_cached_and_fetched_again_later(
    request_with_fetched_keys: RequestToken, key_set_server: KeySetServer, clock: MovableClock
) -> None:
    assert [request_with_fetched_keys().status_code for _ in range(3)] == [200, 200, 200]
    assert key_set_server.fetches == 1
    clock.advance(seconds=FRESH.total_seconds())
    assert request_with_fetched_keys().status_code == 200
    assert key_set_server.fetches == 2


def test_a_new_key_is_fetched_and_unknown_kids_cause_few_fetches(
    request_with_fetched_keys: RequestToken, key_set_server: KeySetServer, clock: MovableClock
) -> None:
    assert request_with_fetched_keys().status_code == 200
    key_set_server.body = json.dumps({"keys": [public(OTHER, kid="new")]}).encode()
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert request_with_fetched_keys(OTHER, header={"kid": "new"}).status_code == 200
    for number in range(20):
        rejection(request_with_fetched_keys(OTHER, header={"kid": f"unknown {number}"}))
    assert key_set_server.fetches == 2


def test_cached_keys_are_used_during_an_outage_for_a_limited_time(
    request_with_fetched_keys: RequestToken, key_set_server: KeySetServer, clock: MovableClock
) -> None:
    assert request_with_fetched_keys().status_code == 200
    key_set_server.status = 500
    clock.advance(seconds=STALE.total_seconds())
    assert request_with_fetched_keys().status_code == 200
    clock.advance(seconds=1)
    rejection(request_with_fetched_keys())
    key_set_server.status = 200
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert request_with_fetched_keys().status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 302, "headers": {"Location": "/elsewhere"}},
        {"body": b'{"keys": [' + b" " * 70_000 + b"]}"},
        {"body": b"[" * 60_000},
        {"body": b"\xff"},
        {"body": b"{}"},
        {"body": b"null"},
        {"headers": {"Content-Encoding": "gzip"}, "body": b"\x1f\x8b\x08\x00"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_an_invalid_key_set_leads_to_a_rejection_and_one_fetch(
    request_with_fetched_keys: RequestToken, key_set_server: KeySetServer, wrong: dict[str, Any]
) -> None:
    vars(key_set_server).update(wrong)
    rejection(request_with_fetched_keys())
    assert key_set_server.fetches == 1


@pytest.mark.parametrize("drips", [False, True])
def test_a_host_that_hangs_delays_no_other_client(
    web: TestClient, issuer: Issuer, machine: tuple[str, str], drips: bool
) -> None:
    with hanging(drips=drips) as port, ThreadPoolExecutor(60) as pool:
        client_id = registered(issuer, jwks_uri=f"http://127.0.0.1:{port}/jwks")
        requests = [pool.submit(request_token, web, assertion(client_id)) for _ in range(60)]
        honest = web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine)
        assert honest.status_code == 200
        assert not all(each.done() for each in requests)  # so the honest client did not wait for them
        assert {each.result().status_code for each in requests} == {401, 503}


@contextmanager
def hanging(*, drips: bool) -> Iterator[int]:
    """Accept connections and never answer, or send single bytes of a header."""
    over = threading.Event()
    taken: list[socket.socket] = []

    def drip() -> None:
        while not over.wait(0.3):
            for each in taken:
                with suppress(OSError):
                    each.send(b"H" if drips else b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip)
        accepting = threading.Thread(target=_accept, args=(listener, taken), daemon=True)
        dripping.start()
        accepting.start()
        yield listener.getsockname()[1]
        over.set()
        dripping.join()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for each in taken:
        each.close()


def _accept(listener: socket.socket, taken: list[socket.socket]) -> None:
    with suppress(OSError):  # it was closed
        while True:
            taken.append(listener.accept()[0])


@pytest.mark.parametrize(
    ("url", "fetchable"),
    [
        ("https://client.test/jwks", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("http://localhost/jwks", True),
        ("http://client.test/jwks", False),
        ("http://localhost.client.test/", False),
        ("https://[x", False),
        ("https://client.test:99999999/", False),
        ("https://user@client.test/", False),
        ("https://client.test/#x", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_keys_are_fetched_over_https_or_from_loopback(url: str, fetchable: bool) -> None:
    assert is_reachable(url) is fetchable


def test_an_unreachable_host_leads_to_a_rejection(
    web: TestClient, issuer: Issuer, key_set_server: KeySetServer
) -> None:
    client_id = registered(issuer, jwks_uri="http://127.0.0.1:1/jwks")
    rejection(request_token(web, assertion(client_id)))


def test_a_clock_set_back_neither_stops_fetches_nor_extends_the_cache(
    request_with_fetched_keys: RequestToken, key_set_server: KeySetServer, clock: MovableClock
) -> None:
    assert request_with_fetched_keys().status_code == 200
    clock.advance(hours=-1)
    key_set_server.body = json.dumps({"keys": [public(OTHER, kid="new")]}).encode()
    rejection(request_with_fetched_keys(OTHER, header={"kid": "new"}))  # at most the cooldown starts again
    clock.advance(seconds=COOLDOWN.total_seconds())
    assert request_with_fetched_keys(OTHER, header={"kid": "new"}).status_code == 200
    assert key_set_server.fetches == 2
    key_set_server.status = 500
    clock.advance(hours=-1)
    assert request_with_fetched_keys(OTHER, header={"kid": "new"}).status_code == 200
    clock.advance(seconds=STALE.total_seconds() + 1)
    rejection(request_with_fetched_keys(OTHER, header={"kid": "new"}))
    key_set_server.status = 200
    clock.advance(hours=1)
    assert request_with_fetched_keys(OTHER, header={"kid": "new"}).status_code == 200
