"""Failing observers, such as counters, callbacks and the record of a replay, do not affect the work.

Logging is tested in `test_log_output`, a whole server in `servers/test_unwritable`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from support.defaults import ALICE, MovableClock

from issuer import callbacks
from issuer.callbacks import notify, take_failures
from issuer.services import Issuer

FIRST_PARTY = {"client_id": "first-party"}


def fail(*_: object) -> None:
    raise RuntimeError("an observer that fails")


@pytest.fixture(autouse=True)
def _nothing_noted() -> Iterator[None]:
    take_failures()
    yield
    take_failures()


def refresh(web: TestClient, token: str) -> int:
    form = {"grant_type": "refresh_token", "refresh_token": token, **FIRST_PARTY}
    return web.post("/oauth2/token", data=form).status_code


def test_an_exception_of_an_observer_is_logged_and_not_raised() -> None:
    for _ in range(1000):
        notify(fail)
    assert take_failures() == ["RuntimeError"] * 100
    assert take_failures() == []


def test_callbacks_that_raise_change_no_answer(web: TestClient, alice: str, issuer: Issuer) -> None:
    for database in (issuer.database, issuer.ring_database):
        database.took = fail
    issuer.accounts.hashing_pool.changed = fail
    for _ in range(3):  # as often as threads hash: none is taken for busy for ever
        body = web.post("/login", data=ALICE)
        assert body.status_code == 200
    assert web.post("/login", data={**ALICE, "password": "wrong"}).status_code == 401
    assert refresh(web, body.json()["refresh_token"]) == 200
    assert issuer.accounts.hashing_pool._running == 0
    issuer.keys.node.refresh()
    assert set(take_failures()) == {"RuntimeError"}


def test_a_replay_ends_its_session_though_it_cannot_be_recorded(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    first = web.post("/login", data=ALICE).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first, **FIRST_PARTY}
    second = web.post("/oauth2/token", data=form).json()["refresh_token"]
    clock.advance(hours=1)
    with issuer.database.write() as connection:
        connection.execute(text("ALTER TABLE session_events RENAME TO elsewhere"))
    assert refresh(web, first) == 400
    assert refresh(web, second) == 400


SHARED = """
import os, pathlib, resource, sys
from issuer.web import metric_values
folder = pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
metric_values.share_values()
def sums():
    return {s.name: s.value for m in MultiProcessCollector(None).collect() for s in m.samples if not s.labels}
registry = CollectorRegistry()
def limit(size):  # as a full disk: what would go beyond it fails
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit(1000)
early = Counter("early", "x", registry=registry)
gauge = Gauge("now", "x", registry=registry, multiprocess_mode="livesum")
early.inc(); early.inc(2); gauge.set(7)
assert list(folder.iterdir()) == [], list(folder.iterdir())
assert sums() == {}
assert {s.value for m in registry.collect() for s in m.samples if s.name in {"early_total", "now"}} == {3, 7}
limit(resource.RLIM_INFINITY)
early.inc(); gauge.set(8)
assert sums() == {"early_total": 4, "now": 8}, sums()
limit(65536)  # the first file cannot grow
many = Counter("many", "x", ["number"], registry=registry)
for number in range(2000):
    many.labels(number).inc()
assert {path.stat().st_size for path in folder.iterdir()} == {65536}
assert 0 < len([s for m in MultiProcessCollector(None).collect() for s in m.samples if s.labels]) < 2000
limit(resource.RLIM_INFINITY)
for number in range(2000):
    many.labels(number).inc()
assert [s.value for m in MultiProcessCollector(None).collect() for s in m.samples if s.labels] == [2] * 2000
for path in folder.iterdir():  # nothing is sparse: writing to it by memory cannot fail
    assert path.stat().st_blocks * 512 >= path.stat().st_size, path
"""


@pytest.mark.processes
def test_values_that_workers_share_are_kept_in_memory_until_there_is_room_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SHARED],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_observers_are_called_with_each_event() -> None:
    heard: list[int] = []
    callbacks.notify(heard.append, 7)
    assert heard == [7]
