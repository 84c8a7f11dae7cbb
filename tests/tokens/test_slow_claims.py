"""A slow or failing function in ISSUER_CLAIMS: what it delays, what it uses up, and what is logged."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from structlog.testing import capture_logs
from support.authorizing import App, an_app, sign_in
from support.defaults import ALICE, Build, MovableClock
from support.servers import eventually

from issuer.clients.client import FIRST_PARTY
from issuer.clock import system_clock
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.tokens.further_claims import REPORT_SECONDS, SLOW_SECONDS, ClaimsOfFunction, ClaimsRequest
from issuer.web.app import SLOW_THREADS, create_app

PATIENCE_SECONDS = 60.0
THREADS = 50
"""More than a process has for all requests."""


class Function:
    """A function for ISSUER_CLAIMS that waits, or fails, for one client."""

    def __init__(self) -> None:
        self.waits_for = self.fails_for = ""
        self.is_waiting, self.go_on = threading.Event(), threading.Event()
        self.waiting, self.lock = 0, threading.Lock()

    def __call__(self, request: ClaimsRequest) -> object:
        if request.client.id == self.fails_for:
            raise LookupError
        if request.client.id == self.waits_for:
            with self.lock:
                self.waiting += 1
            self.is_waiting.set()
            assert self.go_on.wait(PATIENCE_SECONDS)
        return {"groups": []}


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Function:
    module = ModuleType("claims_for_tests")
    module.claims = function = Function()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "claims_for_tests", module)
    return function


@pytest.fixture
def settings(settings: Settings, url: str) -> Settings:
    return settings.model_copy(
        update={"database_url": SecretStr(url), "claims": ("claims_for_tests:claims",)}
    )


@pytest.fixture
def issuer(made: Build, settings: Settings, clock: MovableClock, function: Function) -> Issuer:
    assert function
    clock.now = system_clock()  # PostgreSQL has a clock of its own
    return made(settings)


@pytest.fixture
def node(made: Build, settings: Settings, issuer: Issuer) -> Iterator[TestClient]:
    """Another node on the same database."""
    assert issuer
    with TestClient(create_app(made(settings)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def apps(web: TestClient, issuer: Issuer) -> tuple[App, App]:
    """Two clients, and a browser in which a user is signed in."""
    assert web.post("/users", json=ALICE).status_code == 201
    user = issuer.accounts.store.by_username("alice")
    assert user
    sign_in(web, issuer, user.id)
    return an_app(issuer), an_app(issuer)


def refresh(web: TestClient, app: App, token: str) -> int:
    form = {"grant_type": "refresh_token", "refresh_token": token, **app.credentials}
    return web.post("/oauth2/token", data=form).status_code


def session(web: TestClient, app: App) -> str:
    return str(app.redeems(web, app.code(web)).json()["refresh_token"])


def redeeming(web: TestClient, app: App) -> Callable[[], int]:
    code = app.code(web)
    return lambda: app.redeems(web, code).status_code


def refreshing(web: TestClient, app: App) -> Callable[[], int]:
    token = session(web, app)
    return lambda: refresh(web, app, token)


BOTH = pytest.mark.parametrize("request_of", [redeeming, refreshing])


@BOTH
def test_while_the_function_waits_others_refresh_and_another_node_redeems_a_code_of_the_same_user(
    web: TestClient,
    node: TestClient,
    apps: tuple[App, App],
    function: Function,
    request_of: Callable[[TestClient, App], Callable[[], int]],
) -> None:
    slow, quick = apps
    ask, token, code = request_of(web, slow), session(web, quick), quick.code(web)
    function.waits_for = slow.client_id
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        try:
            assert function.is_waiting.wait(PATIENCE_SECONDS)
            assert refresh(web, quick, token) == 200
            assert quick.redeems(node, code).status_code == 200
            assert not waiting.done()
        finally:
            function.go_on.set()
        assert waiting.result() == 200


def test_requests_that_wait_for_the_function_leave_threads_to_others(
    web: TestClient, issuer: Issuer, function: Function
) -> None:
    machine = an_app(issuer, redirect_uris=[], is_trusted=False)
    form = {"grant_type": "client_credentials", **machine.credentials}
    token = web.post("/oauth2/token", data=form).json()["access_token"]
    function.waits_for = machine.client_id
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(web.post, "/oauth2/token", data=form) for _ in range(THREADS)]
        try:
            eventually(lambda: function.waiting == SLOW_THREADS, "the threads are used up")
            asked = {"token": token, **machine.credentials}
            assert web.post("/oauth2/introspect", data=asked).json()["active"]
            assert not any(each.done() for each in waiting)
        finally:
            function.go_on.set()
        assert {each.result().status_code for each in waiting} == {200}


@BOTH
def test_a_failing_function_uses_up_neither_code_nor_refresh_token(
    web: TestClient,
    apps: tuple[App, App],
    function: Function,
    request_of: Callable[[TestClient, App], Callable[[], int]],
) -> None:
    ask = request_of(web, apps[0])
    function.fails_for = apps[0].client_id
    assert [ask(), ask()] == [500, 500]
    function.fails_for = ""
    assert ask() == 200


def test_a_slow_function_is_logged_with_its_duration_at_most_once_a_minute() -> None:
    now, duration = [0.0], [SLOW_SECONDS]

    def function(_: ClaimsRequest) -> object:
        now[0] += duration[0]
        return {}

    claims = ClaimsOfFunction(function, lambda: now[0])
    with capture_logs() as lines:
        claims(None, FIRST_PARTY, frozenset())
        assert not lines
        duration[0] = SLOW_SECONDS + 1.5
        for _ in range(3):
            claims(None, FIRST_PARTY, frozenset())
        now[0] += REPORT_SECONDS
        claims(None, FIRST_PARTY, frozenset())
    assert [(line["log_level"], line["client"], line["seconds"]) for line in lines] == [
        ("warning", FIRST_PARTY.id, 2.5)
    ] * 2
