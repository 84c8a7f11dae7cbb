"""Whole nodes whose clocks differ, or are set back: tokens, heartbeats, and reports of failures."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.clocks import ADMITTED, PATTERNS, SKEW, STEP, ShiftedClock
from support.defaults import ALICE, START, MovableClock, bearer

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.web.operation import background
from issuer.wiring import build

patterns = pytest.mark.parametrize("shifts", PATTERNS.values(), ids=PATTERNS.keys())


@dataclass
class Nodes:
    """Two whole nodes on one SQLite database, and a client of each."""

    truth: MovableClock
    clocks: tuple[ShiftedClock, ...]
    issuers: tuple[Issuer, ...]
    webs: tuple[TestClient, ...]

    def refresh(self) -> None:
        for each in self.issuers:
            each.keys.node.refresh()


@pytest.fixture
def nodes(settings: Settings, shifts: tuple[timedelta, timedelta]) -> Iterator[Nodes]:
    truth = MovableClock()
    clocks = tuple(ShiftedClock(truth, shift) for shift in shifts)
    issuers = tuple(build(settings, clock) for clock in clocks)
    made = Nodes(truth, clocks, issuers, tuple(TestClient(create_app(each)) for each in issuers))
    made.refresh()  # no task does it here, so that nothing runs beside the test
    assert made.webs[0].post("/users", json=ALICE).status_code == 201
    yield made
    for each in issuers:
        each.close()


def log_in(web: TestClient, password: str = ALICE["password"]) -> Any:
    return web.post("/login", data={**ALICE, "password": password})


@patterns
def test_a_token_of_one_node_is_valid_at_the_other_at_once_and_until_it_expires(nodes: Nodes) -> None:
    client, secret = register_client(
        nodes.issuers[0].clients.store, "service", AuthMethod.BASIC, frozenset({"x"}), (), START
    )
    assert secret
    for issued, asked in ((0, 1), (1, 0)):
        token = log_in(nodes.webs[issued]).json()["access_token"]
        for _ in range(2):
            web = nodes.webs[asked]
            assert web.get("/users/me", headers=bearer(token)).status_code == 200
            introspected = web.post(
                "/oauth2/introspect", data={"token": token}, auth=(client.id, secret)
            ).json()
            assert introspected["active"]
            lifetime = nodes.issuers[0].policy.token_lifetime
            nodes.truth.advance(seconds=(lifetime - SKEW).total_seconds() / 2 - 1)
            nodes.refresh()


@patterns
def test_each_node_sees_the_heartbeat_of_the_other_and_removes_no_current_one(nodes: Nodes) -> None:
    for _ in range(3):
        nodes.refresh()
        for each in nodes.issuers:
            assert len(each.keys.heartbeats.all()) == len(nodes.issuers)
        nodes.truth.advance(seconds=nodes.issuers[0].policy.heartbeat_interval.total_seconds())


@pytest.mark.parametrize("shifts", [PATTERNS["half the skew ahead and behind"]], ids=["apart"])
def test_nodes_serve_after_their_clocks_step_back_an_hour_and_forward_again(nodes: Nodes) -> None:
    for span in (-STEP, STEP):
        assert log_in(nodes.webs[0], "wrong").status_code == 401
        for clock in nodes.clocks:
            clock.shift += span
        assert {log_in(web).status_code for web in nodes.webs} == {503}  # until each has seen the ring again
        nodes.refresh()
        assert {log_in(web).status_code for web in nodes.webs} == {200}
        assert all(each.keys.node.failure is None for each in nodes.issuers)


@pytest.mark.parametrize("shifts", [PATTERNS["alike"]], ids=["alike"])
def test_a_refresh_that_hangs_is_reported_although_the_clock_was_set_back(nodes: Nodes) -> None:
    assert nodes.issuers[0].keys.node.failure is None
    nodes.clocks[0].shift -= STEP
    assert nodes.issuers[0].keys.node.failure is not None


def test_a_warning_is_repeated_although_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sounded: list[str] = []
    monkeypatch.setattr(background.log, "error", lambda event, **_: sounded.append(event))
    warning_log, now = background._WarningLog(), START
    for span in (ADMITTED, timedelta(seconds=1), -STEP, timedelta(seconds=1), background.REPEAT):
        now += span
        warning_log.report(["something is wrong"], now)
    assert len(sounded) == 3  # at first, after the step, and a minute later
