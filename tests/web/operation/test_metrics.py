"""The metrics of one process at `/metrics`: each changes with its event, and each is documented.

Sums over several workers are tested in `servers/test_metrics`.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from support.defaults import ALICE, Build, MovableClock
from support.prometheus import Samples
from support.servers import eventually
from support.stores import ENTRY

from issuer.accounts.hashing_pool import QUEUE_LIMIT
from issuer.audit.store import AuditStore
from issuer.database.errors import DatabaseUnavailable
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import SECRET
from issuer.web.app import create_app
from issuer.web.instruments import OTHER
from issuer.web.operation.metrics import VERSIONS_KEPT
from verifier_example import app as example

DOCUMENT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
WRONG = ("nobody", "a wrong secret")
MACHINES = {"grant_type": "client_credentials"}


def samples_of(web: TestClient) -> Samples:
    answer = web.get("/metrics")
    assert answer.status_code == 200
    return Samples(answer.text)


@pytest.fixture
def moved(web: TestClient) -> Callable[..., float]:
    """Return how much a metric changed since the test began."""
    before = samples_of(web)
    return lambda name, **labels: samples_of(web).total(name, **labels) - before.total(name, **labels)


def current(issuer: Issuer) -> str:
    return issuer.keys.node.view.ring.current(issuer.clock()).kid


# Documents


def documented(prefix: str) -> set[tuple[str, frozenset[str]]]:
    rows = re.findall(rf"^\| `({prefix}_[a-z_]+)` \|([^|]*)\|", DOCUMENT, re.MULTILINE)
    return {(name, frozenset(re.findall(r"`([a-z_]+)`", labels))) for name, labels in rows}


def test_the_document_has_each_metric_of_the_issuer_with_its_labels_and_no_other(
    web: TestClient, machine: tuple[str, str]
) -> None:
    assert web.post("/oauth2/token", auth=machine, data=MACHINES).status_code == 200
    web.get("/.well-known/jwks.json")
    assert set(samples_of(web).described()) == documented("issuer")


def test_the_document_has_each_metric_of_the_example_with_its_labels_and_no_other() -> None:
    with TestClient(example.create_app()) as service:
        assert set(samples_of(service).described()) == documented("verifier")


@pytest.mark.parametrize(
    ("url", "needs"), [("http://127.0.0.1:8000", False), ("https://issuer.example", True)]
)
def test_openapi_documents_whether_metrics_need_a_token(
    made: Build, settings: Settings, url: str, *, needs: bool
) -> None:
    document = create_app(made(settings.model_copy(update={"url": url}))).openapi()
    assert ({} in document["paths"]["/metrics"]["get"]["security"]) is not needs


# Tokens and refusals


def test_tokens_are_counted_by_grant_and_kid(
    web: TestClient, issuer: Issuer, machine: tuple[str, str], alice: str, moved: Callable[..., float]
) -> None:
    first_party = {"client_id": "first-party"}
    web.post("/oauth2/token", auth=machine, data=MACHINES)
    body = web.post("/login", data=ALICE).json()
    web.post("/oauth2/token", data={"grant_type": "password", **ALICE, **first_party})
    refreshing = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **first_party}
    assert web.post("/oauth2/token", data=refreshing).status_code == 200
    for grant, count in (("client_credentials", 1), ("password", 2), ("refresh_token", 1)):
        assert moved("issuer_tokens_issued_total", grant=grant, kid=current(issuer)) == count
    assert moved("issuer_tokens_issued_total") == 4
    assert moved("issuer_requests_refused_total") == 0


def test_refusals_are_counted_by_endpoint_grant_and_reason(
    web: TestClient, alice: str, moved: Callable[..., float]
) -> None:
    password = {"grant_type": "password", "client_id": "first-party", **ALICE, "password": "a wrong password"}
    requests = [
        ("/oauth2/token", MACHINES, "client_credentials", "invalid_client"),
        ("/oauth2/token", password, "password", "invalid_grant"),
        ("/login", {**ALICE, "password": "a wrong password"}, "password", "invalid_grant"),
        ("/oauth2/token", {"grant_type": "a stranger's"}, OTHER, "unsupported_grant_type"),
        ("/oauth2/introspect", {"token": "x"}, "", "invalid_client"),
    ]
    for path, form, grant, reason in requests:
        auth = None if "client_id" in form or path == "/login" else WRONG
        assert web.post(path, data=form, auth=auth).json()["error"] == reason
        assert moved("issuer_requests_refused_total", endpoint=path, grant=grant, reason=reason) == 1
    assert moved("issuer_requests_refused_total") == len(requests)


def test_sign_ins_that_cannot_start_are_counted(web: TestClient, moved: Callable[..., float]) -> None:
    repeated = "client_id=a&client_id=b"
    web.get(f"/oauth2/authorize?{repeated}")
    web.post(
        "/oauth2/authorize", content=repeated, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    refused = {"endpoint": "/oauth2/authorize", "reason": "invalid_request"}
    assert moved("issuer_requests_refused_total", **refused) == 2


def test_no_stranger_can_choose_the_value_of_a_label(web: TestClient, moved: Callable[..., float]) -> None:
    for path in ("/a", "/b", "/.well-known/jwks.json/c", "/users/me/sessions/d"):
        web.get(path)
    web.delete("/users/me/sessions/e")
    web.post("/oauth2/token", data={"grant_type": "f", "client_id": "g"})
    samples = samples_of(web)
    known = {"/login", "/oauth2/token", "/users/me/sessions/{session_id}", "/users/me/sessions/{id}", OTHER}
    assert samples.labels("issuer_requests_refused_total", "endpoint") <= known
    assert samples.labels("issuer_requests_refused_total", "grant") <= {
        "authorization_code", "client_credentials", "password", "refresh_token", OTHER, ""
    }  # fmt: skip
    assert moved("issuer_requests_refused_total", endpoint=OTHER) == 3


def test_limits_are_counted_where_they_hold_somebody_up(web: TestClient, moved: Callable[..., float]) -> None:
    statuses = [
        web.post("/oauth2/token", auth=WRONG, data=MACHINES).status_code for _ in range(SECRET.free + 2)
    ]
    limited = statuses.count(429)
    assert limited
    assert (
        moved("issuer_requests_refused_total", endpoint="/oauth2/token", reason="too_many_attempts")
        == limited
    )
    assert moved("issuer_requests_refused_total", reason="invalid_client") == len(statuses) - limited


def test_an_outage_and_a_defect_are_counted_by_reason(
    web: TestClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, moved: Callable[..., float]
) -> None:
    for error, reason in (
        (DatabaseUnavailable("down"), "temporarily_unavailable"),
        (ZeroDivisionError(), "server_error"),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(issuer.clients.store, "recent", fail)
        assert web.post("/oauth2/token", auth=WRONG, data=MACHINES).json()["error"] == reason
        assert moved("issuer_requests_refused_total", endpoint="/oauth2/token", reason=reason) == 1


# The JWKS


def test_requests_for_the_jwks_are_counted_by_status_and_version(
    web: TestClient, issuer: Issuer, clock: MovableClock, moved: Callable[..., float]
) -> None:
    path = "/.well-known/jwks.json"
    etag = web.get(path).headers["ETag"]
    web.get(path, headers={"If-None-Match": etag})
    web.get(path)
    version = issuer.keys.node.view.ring.version
    issuer.ring_database.close()
    clock.advance(days=1)
    assert web.get(path).status_code == 503
    for status, count in (("200", 2), ("304", 1), ("503", 1)):
        assert moved("issuer_jwks_requests_total", status=status, version=str(version)) == count


def test_removed_keys_are_no_longer_exported(
    web: TestClient, issuer: Issuer, machine: tuple[str, str], clock: MovableClock
) -> None:
    first = current(issuer)
    web.post("/oauth2/token", auth=machine, data=MACHINES)
    web.get("/.well-known/jwks.json")
    version = issuer.keys.node.view.ring.version
    assert first in samples_of(web).labels("issuer_tokens_issued_total", "kid")
    while issuer.keys.node.view.ring.version < version + VERSIONS_KEPT:
        clock.advance(days=31)
        issuer.keys.node.refresh()
    web.get("/.well-known/jwks.json")
    samples = samples_of(web)
    assert first not in samples.labels("issuer_tokens_issued_total", "kid")
    assert str(version) not in samples.labels("issuer_jwks_requests_total", "version")
    assert str(issuer.keys.node.view.ring.version) in samples.labels("issuer_jwks_requests_total", "version")


# The key ring


def test_the_next_transitions_are_reported_in_seconds(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    period, metric = issuer.policy.rotation_period, "issuer_next_transition_seconds"
    assert samples_of(web).total(metric, transition="signs") == period.total_seconds()
    clock.advance(seconds=period.total_seconds())
    issuer.keys.node.refresh()
    ring = issuer.keys.node.view.ring
    leaves_at = min(at for key in ring.keys if (at := ring.leaves_at(key)) and at > clock())
    assert samples_of(web).total(metric, transition="leaves") == (leaves_at - clock()).total_seconds() < 3600
    assert samples_of(web).total(metric, transition="signs") == period.total_seconds()
    assert samples_of(web).total("issuer_current_key_age_seconds") == 0


def test_a_key_that_is_overdue_and_a_standby_that_is_missing_are_reported(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    assert samples_of(web).total("issuer_rotation_overdue_seconds") == 0
    view = issuer.keys.node.view
    alone = replace(view.ring, keys=(view.ring.current(clock()),))
    clock.advance(seconds=issuer.policy.rotation_period.total_seconds() + 90)
    issuer.keys.node._view = replace(view, ring=alone)
    assert samples_of(web).total("issuer_rotation_overdue_seconds") == 90
    assert samples_of(web).total("issuer_standby_keys_missing") == 1


def test_how_far_the_clock_is_from_that_of_the_database_is_reported(web: TestClient, issuer: Issuer) -> None:
    assert samples_of(web).total("issuer_clock_offset_seconds") == 0  # SQLite has none of its own
    issuer.keys.rotation.clocks.ahead = timedelta(seconds=-7)
    assert samples_of(web).total("issuer_clock_offset_seconds") == -7


def test_a_refresh_that_fails_is_counted_and_the_failure_lasts_until_one_succeeds(
    made: Build, settings: Settings, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.web.operation.background.REFRESH_INTERVAL", timedelta(milliseconds=5))
    issuer = made(settings)
    metric = "issuer_key_ring_reconcile_failing_seconds"
    with TestClient(create_app(issuer)) as web:
        with issuer.database.write() as connection:
            connection.execute(text("ALTER TABLE key_ring RENAME TO elsewhere"))
        eventually(
            lambda: samples_of(web).total("issuer_key_ring_refresh_failures_total") > 1, "it is counted"
        )
        clock.advance(seconds=2)
        assert samples_of(web).total(metric) == 2
        with issuer.database.write() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO key_ring"))
        eventually(lambda: samples_of(web).total(metric) == 0, "well again")


# Database and hashing


def test_transactions_are_timed_by_kind(web: TestClient, issuer: Issuer, moved: Callable[..., float]) -> None:
    metric = "issuer_database_transaction_seconds_count"
    writes = moved(metric, kind="write")
    with issuer.database.write(), issuer.database.read():
        pass
    with issuer.database.together(), issuer.database.write():  # a part of a whole is not timed by itself
        pass
    assert moved(metric, kind="write") >= writes + 2
    issuer.database.ping()
    assert moved(metric, kind="read") >= 2
    assert moved("issuer_database_transaction_seconds_sum") > 0


def test_metrics_count_waiting_and_refused_jobs_of_the_hashing_queue(
    web: TestClient, issuer: Issuer, moved: Callable[..., float]
) -> None:
    gate, most = threading.Event(), QUEUE_LIMIT + issuer.accounts.hashing_pool._threads

    async def fill() -> int:
        jobs = [
            asyncio.create_task(issuer.accounts.hashing_pool.run((str(n),), gate.wait)) for n in range(most)
        ]
        await asyncio.sleep(0)
        assert moved("issuer_hashing_jobs") == most
        answer = await asyncio.to_thread(web.post, "/login", data=ALICE)
        gate.set()
        await asyncio.gather(*jobs)
        return answer.status_code

    assert asyncio.run(fill()) == 503
    assert moved("issuer_hashing_rejected_total") == 1
    assert moved("issuer_requests_refused_total", endpoint="/login", reason="temporarily_unavailable") == 1


def test_the_head_of_the_audit_log_is_a_metric_so_that_another_system_keeps_it(
    web: TestClient, issuer: Issuer
) -> None:
    def anchors() -> set[str]:
        return samples_of(web).labels("issuer_audit_entries", "digest")

    head = issuer.keys.audit.head()
    assert anchors() == {head.digest[:16]}
    assert samples_of(web).total("issuer_audit_entries") == head.number > 0
    AuditStore(issuer.ring_database).record(ENTRY)
    assert anchors() == {issuer.keys.audit.head().digest[:16]} != {head.digest[:16]}


def test_metrics_are_answered_while_the_head_of_the_audit_log_cannot_be_read(
    web: TestClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(issuer.keys.audit, "head", fail)
    assert samples_of(web).labels("issuer_audit_entries", "digest") == set()
