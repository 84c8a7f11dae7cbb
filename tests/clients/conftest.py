"""Fixtures for clients that sign assertions; the classes behind them are in `support.signing_clients`."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.defaults import MovableClock
from support.signing_clients import RSA, KeySetServer, RequestToken, assertion, registered, request_token

from issuer.services import Issuer


@pytest.fixture
def client_id(issuer: Issuer) -> str:
    return registered(issuer)


@pytest.fixture
def key_set_server() -> Iterator[KeySetServer]:
    with KeySetServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def request_with_fetched_keys(
    web: TestClient, issuer: Issuer, key_set_server: KeySetServer, clock: MovableClock
) -> RequestToken:
    """Request a token as a client whose keys are at `key_set_server`, at the time of the clock."""
    client_id = registered(issuer, jwks_uri=key_set_server.url)

    def request_now(key: Any = RSA, **changes: Any) -> httpx2.Response:
        issuer.keys.node.refresh()
        now = int(clock().timestamp())
        return request_token(web, assertion(client_id, key, iat=now, exp=now + 60, **changes))

    return request_now
