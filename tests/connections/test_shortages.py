"""What is answered when a process gets no more threads, memory or descriptors: 503, never 500."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.defaults import ALICE, START, Build
from support.servers import free_port

from issuer.accounts.hashing_pool import HashingPool
from issuer.clients.client import Client
from issuer.clients.key_sets import ClientKeys
from issuer.connections.shortages import is_shortage
from issuer.oauth import AuthMethod
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from verifier_example.app import create_app as create_example
from verifier_example.settings import Settings as ExampleSettings

NEW_USER = {"username": "carol", "password": "violet otters juggle pancakes"}
TOKEN = {"grant_type": "client_credentials"}
REFRESH = {"grant_type": "refresh_token", "refresh_token": "x" * 86, "client_id": "first-party"}
MACHINE = ("x", "y" * 43)

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/login", {"data": ALICE}),
    ("POST", "/users", {"json": NEW_USER}),
    ("GET", "/users/me", {"headers": {"Authorization": "Bearer x"}}),
    ("POST", "/oauth2/token", {"data": TOKEN, "auth": MACHINE}),
    ("POST", "/oauth2/token", {"data": {**TOKEN, "grant_type": "password", **ALICE, "client_id": "x"}}),
    ("POST", "/oauth2/token", {"data": REFRESH}),
    ("POST", "/oauth2/revoke", {"data": {"token": "x"}, "auth": MACHINE}),
    ("POST", "/oauth2/introspect", {"data": {"token": "x"}, "auth": MACHINE}),
    ("GET", "/readyz", {}),
    ("GET", "/metrics", {}),
    ("GET", "/static-offline-docs/favicon.png", {}),
]


def ask(app: FastAPI, method: str, path: str, **what: Any) -> httpx2.Response:
    """Ask on an event loop that has no threads yet."""

    async def answered() -> httpx2.Response:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.request(method, path, **what)

    return asyncio.run(answered())


def require_later(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"algorithm": "ES256"})


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no further thread start, as the kernel does at a limit on tasks."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_where_no_thread_can_be_started_a_request_is_asked_to_come_back(
    made: Build, settings: Settings, no_threads: Callable[[], None]
) -> None:
    issuer = made(settings)
    issuer.keys.node.refresh()
    app = create_app(issuer)
    no_threads()
    for method, path, what in REQUESTS:
        require_later(ask(app, method, path, **what))
    for path in ("/healthz", "/docs", "/.well-known/jwks.json"):
        assert ask(app, "GET", path).status_code == 200  # they need none


def test_the_example_sends_retry_after_too(no_threads: Callable[[], None]) -> None:
    app = create_example(ExampleSettings(_env_file=None))
    no_threads()
    require_later(ask(app, "GET", "/static-offline-docs/favicon.png"))
    assert ask(app, "GET", "/me").status_code == 401


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "too many open files"), OSError(errno.ENOMEM, "no memory")]
)
def test_any_shortage_is_answered_503_by_both_services(
    made: Build, settings: Settings, error: Exception
) -> None:
    issuer = create_app(made(settings))
    example = create_example(ExampleSettings(_env_file=None))
    for app in (issuer, example):

        @app.get("/short")
        async def short() -> None:
            raise error

        require_later(ask(app, "GET", "/short"))


def test_a_defect_is_not_taken_for_a_shortage(made: Build, settings: Settings) -> None:
    for error in (
        RuntimeError("the ring is broken"),
        OSError(errno.ENOENT, os.strerror(errno.ENOENT)),
        OSError("x"),
    ):
        assert not is_shortage(error)
    app = create_app(made(settings))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the ring is broken")

    assert ask(app, "GET", "/broken").json()["error"] == "server_error"


def test_threads_for_hashing_and_refreshes_exist_from_the_start(
    web: TestClient, alice: str, no_threads: Callable[[], None]
) -> None:
    # An executor keeps the job for which it could start no thread: a token would be used after a refusal.
    refresh_token = web.post("/login", data=ALICE).json()["refresh_token"]
    no_threads()
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": refresh_token}
    assert web.post("/oauth2/token", data=form).status_code == 200
    assert web.post("/login", data=ALICE).status_code == 200


def test_a_key_set_that_no_thread_could_fetch_is_fetched_for_the_next_request(
    no_threads: Callable[[], None],
) -> None:
    keys = ClientKeys()
    uri = f"http://127.0.0.1:{free_port()}/"
    client = Client("c", "c", AuthMethod.PRIVATE_KEY_JWT, frozenset(), START, jwks_uri=uri)
    no_threads()
    with pytest.raises(RuntimeError, match="new thread"):
        keys.keys(client, None, START)
    with pytest.raises(
        RuntimeError, match="new thread"
    ):  # and not "no such key", as after a fetch that failed
        keys.keys(client, None, START)
    keys.close()


def test_threads_that_cannot_all_be_started_are_an_error_and_none_is_left_waiting(
    no_threads: Callable[[], None],
) -> None:
    pool = HashingPool(2)
    no_threads()
    with pytest.raises(RuntimeError, match="new thread"):
        pool.start()
    pool.close()
