"""Name servers that do not answer: they delay no other client, and occupy few threads."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.defaults import MovableClock
from support.servers import eventually
from support.signing_clients import KeySetServer, assertion, registered, rejection, request_token

from issuer.clients.host_lookup import LOOKUPS_MOST
from issuer.clients.key_sets import COOLDOWN
from issuer.services import Issuer


@contextmanager
def unanswered_lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block, lookups of names below `hangs.test` do not end."""
    over, real = threading.Event(), socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith("hangs.test"):
            over.wait(60)
            raise OSError("no answer")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        yield
    finally:
        over.set()


def lookup_threads() -> int:
    return sum(thread.name == "lookup" for thread in threading.enumerate())


def test_a_name_server_that_hangs_occupies_few_threads_and_delays_no_other_host(
    web: TestClient,
    issuer: Issuer,
    key_set_server: KeySetServer,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("issuer.clients.outgoing_http.EXCHANGE_SECONDS", 0.2)
    hanging = [registered(issuer, jwks_uri=f"https://{number}.hangs.test/jwks") for number in range(20)]
    honest = registered(issuer, jwks_uri=f"http://localhost:{key_set_server.server_address[1]}/jwks")
    with unanswered_lookups(monkeypatch):
        for client_id in hanging[:LOOKUPS_MOST]:
            rejection(request_token(web, assertion(client_id)))
        clock.advance(seconds=COOLDOWN.total_seconds())
        issuer.keys.node.refresh()
        for client_id in hanging:  # the first lookups still hang, and the others are not started
            now = int(clock().timestamp())
            rejection(request_token(web, assertion(client_id, iat=now, exp=now + 60)))
        assert lookup_threads() == LOOKUPS_MOST
    eventually(lambda: lookup_threads() == 0, "the lookups have ended")
    now = int(clock().timestamp())
    assert request_token(web, assertion(honest, iat=now, exp=now + 60)).status_code == 200


def test_a_name_that_hangs_delays_no_other_client(
    web: TestClient, issuer: Issuer, key_set_server: KeySetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.clients.outgoing_http.EXCHANGE_SECONDS", 0.2)
    slow = registered(issuer, jwks_uri="https://hangs.test/jwks")
    honest = registered(issuer, jwks_uri=f"http://localhost:{key_set_server.server_address[1]}/jwks")
    with unanswered_lookups(monkeypatch):
        rejection(request_token(web, assertion(slow)))
        assert request_token(web, assertion(honest)).status_code == 200
