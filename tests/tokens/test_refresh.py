"""Refresh tokens presented again, from another address, too often, or made up: the answer and the record.

Wrong clocks are tested in `test_session_clocks`.
"""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text
from structlog.testing import capture_logs
from support.defaults import ALICE, MovableClock, bearer
from support.prometheus import Samples
from typer.testing import CliRunner

from issuer.administration.clients import register_client
from issuer.audit.chain import Action, Entry
from issuer.cli.commands import app
from issuer.digests import digest
from issuer.maintenance.pruning import prune
from issuer.oauth import AuthMethod
from issuer.tokens.refresh import REFRESH_GRACE, ROTATION_BURST, ROTATION_INTERVAL, family_and_proof
from issuer.tokens.refresh_rotation import refresh_tokens
from issuer.tokens.session_events import SessionEvent
from issuer.web.app import create_app
from issuer.wiring import Issuer

From = Callable[[str], TestClient]
SERVICE = "http://127.0.0.1:8001"
PUBLIC = {"client_id": "first-party"}


@pytest.fixture
def requests_from(issuer: Issuer, alice: str) -> Iterator[From]:
    """Return a function that makes clients with an address."""
    assert alice
    app = create_app(issuer)
    issuer.keys.node.refresh()

    def at(address: str) -> TestClient:
        return TestClient(app, client=(address, 50000), raise_server_exceptions=False)

    return at


def log_in(web: TestClient) -> dict[str, str]:
    body: dict[str, str] = web.post("/login", data=ALICE).json()
    return body


def refresh(web: TestClient, token: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", **PUBLIC, "refresh_token": token, **more}
    return web.post("/oauth2/token", data=form)


def successor(web: TestClient, token: str) -> str:
    answer = refresh(web, token)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["refresh_token"]
    return found


def is_living(web: TestClient, token: str) -> bool:
    return refresh(web, token).status_code == 200


def events(issuer: Issuer) -> dict[str, int]:
    return {each.event: each.count for each in issuer.tokens.session_events.newest(100)[0]}


def rows(issuer: Issuer) -> int:
    with issuer.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(refresh_tokens)) or 0


# Repeats


def test_a_used_token_may_be_repeated_once_and_the_session_continues(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    second = successor(web, first)
    with capture_logs() as logged:
        assert successor(web, first) == second
        refused = [refresh(web, first) for _ in range(2)]
    assert {(each.status_code, each.json()["error"]) for each in refused} == {(400, "invalid_grant")}
    assert successor(web, second) != second
    assert events(issuer) == {"refresh token repeated": 1, "refresh token repeat refused": 2}
    told = [line for line in logged if "refresh token" in line["event"]]
    assert [line["log_level"] for line in told] == ["info", "warning", "warning"]
    assert {line["user"] for line in told} == {alice}
    metrics = Samples(web.get("/metrics").text)
    counted = {
        outcome: metrics.total("issuer_refresh_token_repeats_total", outcome=outcome)
        for outcome in ("answered", "refused")
    }
    assert counted == {"answered": 1, "refused": 2}


def test_each_rotation_allows_one_repeat(web: TestClient, alice: str) -> None:
    token = log_in(web)["refresh_token"]
    for _ in range(5):
        following = successor(web, token)
        assert successor(web, token) == following
        token = following


@pytest.mark.parametrize("other", ["198.51.100.7", "2001:db8:0:1::7", "::1"])
def test_a_repeat_from_another_site_ends_the_session_and_is_recorded(
    requests_from: From, issuer: Issuer, other: str
) -> None:
    owner, thief = requests_from("203.0.113.7"), requests_from(other)
    first = log_in(owner)["refresh_token"]
    second = successor(owner, first)
    with capture_logs() as logged:
        assert refresh(thief, first).json()["error"] == "invalid_grant"
    assert not is_living(owner, second)
    assert events(issuer) == {"refresh token reused from another address": 1}
    assert [line["log_level"] for line in logged if "reuse detected" in line["event"]] == ["warning"]
    assert Samples(owner.get("/metrics").text).total("issuer_refresh_token_replays_total") == 1


def test_a_theft_used_before_the_owner_is_detected_at_the_owners_refresh(
    requests_from: From,
) -> None:
    owner, thief = requests_from("203.0.113.7"), requests_from("198.51.100.7")
    first = log_in(owner)["refresh_token"]
    stolen = successor(thief, first)
    assert refresh(owner, first).status_code == 400
    assert not is_living(thief, stolen)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("a socket file", "a socket file"),
        ("", ""),
    ],
)
def test_a_repeat_from_the_same_site_gets_the_same_successor(
    requests_from: From, one: str, same: str
) -> None:
    first = log_in(requests_from(one))["refresh_token"]
    assert successor(requests_from(same), first) == successor(requests_from(one), first)


def test_a_changed_address_between_refreshes_keeps_the_session(requests_from: From) -> None:
    token = log_in(requests_from("203.0.113.1"))["refresh_token"]
    for number in range(2, 6):
        token = successor(requests_from(f"203.0.113.{number}"), token)


def test_a_tab_two_rotations_behind_within_the_grace_catches_up(web: TestClient, alice: str) -> None:
    first = log_in(web)["refresh_token"]
    second = successor(web, first)
    third = successor(web, second)
    assert successor(web, first) == second
    assert successor(web, second) == third


# Tokens whose rows are gone, and tokens that are made up


def rotated(web: TestClient, issuer: Issuer, token: str, times: int) -> str:
    for _ in range(times):
        issuer.clock.advance(minutes=10)  # type: ignore[attr-defined]  # it is the movable one
        issuer.keys.node.refresh()
        token = successor(web, token)
    return token


def test_a_replayed_token_without_a_row_still_ends_its_session(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    newest = rotated(web, issuer, first, 5)
    assert issuer.tokens.families.find(digest(first)) is None
    assert refresh(web, first).json()["error"] == "invalid_grant"
    assert not is_living(web, newest)
    assert events(issuer) == {"refresh token reused": 1}


def test_a_token_without_a_row_is_inactive_and_still_revokes_its_session(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    newest = rotated(web, issuer, first, 3)
    told = web.post("/oauth2/introspect", data={"token": first}, auth=machine).json()
    assert told == {"active": False}
    assert web.post("/oauth2/revoke", data={"token": first}, auth=machine).status_code == 400
    assert is_living(web, newest)
    assert web.post("/oauth2/revoke", data={"token": first, **PUBLIC}).status_code == 200
    assert not is_living(web, newest)


def test_only_a_token_of_the_session_can_end_it(web: TestClient, alice: str, issuer: Issuer) -> None:
    body, other = log_in(web), log_in(web)
    session, _ = family_and_proof(body["refresh_token"]) or ("", b"")
    raw = base64.urlsafe_b64decode(body["refresh_token"] + "==")
    theirs = base64.urlsafe_b64decode(other["refresh_token"] + "==")
    made_up = [
        bytes(48) + uuid.UUID(session).bytes,  # the id is in access tokens, the proof is not
        theirs[:48] + raw[48:],
        raw[:48] + theirs[48:],
        raw[:32] + bytes([raw[32] ^ 1]) + raw[33:],
    ]
    for each in made_up:
        token = base64.urlsafe_b64encode(each).rstrip(b"=").decode()
        assert refresh(web, token).json()["error"] == "invalid_grant"
        assert web.post("/oauth2/revoke", data={"token": token, **PUBLIC}).status_code == 200
    whole = body["refresh_token"]
    for token in (whole[:-1], whole + "=", whole + "A", whole[:85] + "é", " " + whole[1:]):
        assert refresh(web, token).json()["error"] == "invalid_grant"
    assert events(issuer) == {}
    assert all(is_living(web, each["refresh_token"]) for each in (body, other))


def test_a_replay_by_another_client_does_not_end_the_session(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    newest = rotated(web, issuer, first, 3)
    form = {"grant_type": "refresh_token", "refresh_token": first}
    assert web.post("/oauth2/token", auth=machine, data=form).json()["error"] == "invalid_grant"
    assert is_living(web, newest)


# What one session may cost


def test_a_session_in_long_use_has_two_rows(web: TestClient, alice: str, issuer: Issuer) -> None:
    rotated(web, issuer, log_in(web)["refresh_token"], 20)
    assert rows(issuer) == 2


def test_continuous_refreshes_keep_the_session_and_add_few_rows(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    token = log_in(web)["refresh_token"]
    issued, most = {token}, 0
    for _ in range(300):
        token = successor(web, token)
        issued.add(token)
        most = max(most, rows(issuer))
        clock.advance(seconds=1)
        issuer.keys.node.refresh()
    paced = 300 // ROTATION_INTERVAL.total_seconds()
    assert paced < len(issued) <= 1 + ROTATION_BURST + paced
    assert most <= 37
    assert (
        len(web.get("/users/me/sessions", headers=bearer(log_in(web)["access_token"])).json()["sessions"])
        == 2
    )


def test_a_refresh_without_rotation_issues_an_access_token_and_writes_nothing(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    token = log_in(web)["refresh_token"]
    for _ in range(ROTATION_BURST):
        token = successor(web, token)
    transactions: list[str] = []
    issuer.database.took = lambda kind, _seconds: transactions.append(kind)
    answer = refresh(web, token)
    assert (answer.json()["refresh_token"], transactions) == (token, ["read"])
    assert web.get("/users/me", headers=bearer(answer.json()["access_token"])).status_code == 200
    clock.advance(seconds=ROTATION_INTERVAL.total_seconds())
    assert successor(web, token) != token


# Telling never changes doing


@pytest.mark.parametrize("broken", ["the table is gone", "the log raises"])
def test_a_failing_record_changes_no_answer_to_a_repeat_or_replay(
    web: TestClient,
    alice: str,
    issuer: Issuer,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    first = log_in(web)["refresh_token"]
    if broken == "the table is gone":
        with issuer.database.write() as connection:
            connection.execute(text("DROP TABLE session_events"))
    else:

        class Broken:
            def __getattr__(self, name: str) -> Any:
                raise OSError(name)

        monkeypatch.setattr("issuer.tokens.families.log", Broken())
    second = successor(web, first)
    assert successor(web, first) == second
    assert refresh(web, first).json()["error"] == "invalid_grant"
    clock.advance(seconds=REFRESH_GRACE.total_seconds() + 1)
    issuer.keys.node.refresh()
    answer = refresh(web, first)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not is_living(web, second)


def test_events_are_summed_by_user_for_thirty_days_and_deleted_after_ninety(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    for _ in range(20):
        first = log_in(web)["refresh_token"]
        successor(web, first)
        successor(web, first)
    assert [(each.event, each.count) for each in issuer.tokens.session_events.newest(10)[0]] == [
        ("refresh token repeated", 20)
    ]
    assert {link.entry.action for link in issuer.keys.audit.chain()[0]} == {"published", "activated"}
    clock.advance(days=31)
    issuer.keys.node.refresh()
    first = log_in(web)["refresh_token"]
    assert successor(web, first) == successor(web, first)
    [event], _ = issuer.tokens.session_events.newest(10)
    assert (event.count, event.first_at, event.last_at) == (1, clock(), clock())
    clock.advance(days=89)
    prune(issuer.database, clock())
    assert events(issuer) == {"refresh token repeated": 1}
    clock.advance(days=2)
    while prune(issuer.database, clock()):
        pass
    assert events(issuer) == {}


def test_many_replays_do_not_displace_key_events_in_the_audit_log(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "a passphrase for tests")

    def told(*command: str) -> Any:
        done = CliRunner().invoke(app, ["audit", *command])
        assert done.exit_code == 0, done.output
        return json.loads(done.output) if "--json" in command else done.output

    assert "no events in the last 90 days" in told("sessions")
    assert told("list", "--json")["sessions"] == []
    now = issuer.clock()
    issuer.keys.audit.record(Entry(now, "an operator", Action.ACTIVATED, reason="forced: the vendor asked"))
    first = log_in(web)["refresh_token"]
    found = issuer.tokens.families.find(digest(first))
    assert found
    for number in range(60):  # of as many accounts
        family = replace(found.family, user_id=str(uuid.UUID(int=number)))
        issuer.session_events.record(SessionEvent.REUSED, family, now)
    issuer.session_events.record(SessionEvent.REUSED, found.family, now + timedelta(seconds=1))
    listed = told("list", "--json")
    assert "forced: the vendor asked" in [entry["reason"] for entry in listed["entries"]]
    assert len(listed["sessions"]) == 50
    assert "issuer audit sessions" in told("list")
    assert len(told("sessions", "--last", "100", "--json")["sessions"]) == 61
    newest = told("sessions").strip().splitlines()[-1]
    assert "alice" in newest
    assert found.family.id in newest
    assert "entries" in told("verify", "--json")


# A token for a service alone


def for_service(web: TestClient) -> tuple[str, str]:
    """Return an access token with only the service as audience, and the refresh token of its session."""
    body = refresh(web, log_in(web)["refresh_token"], resource=SERVICE).json()
    return body["access_token"], body["refresh_token"]


def test_a_service_cannot_end_a_session_with_a_token_for_itself(web: TestClient, alice: str) -> None:
    access, token = for_service(web)
    for hint in ({}, {"token_type_hint": "access_token"}, {"token_type_hint": "refresh_token"}):
        answer = web.post("/oauth2/revoke", data={"token": access, **PUBLIC, **hint})
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")
    session = family_and_proof(token)
    assert session
    for method, path in (
        ("POST", "/logout"),
        ("POST", "/logout?everywhere=true"),
        ("GET", "/users/me"),
        ("GET", "/users/me/sessions"),
        ("DELETE", f"/users/me/sessions/{session[0]}"),
    ):
        assert web.request(method, path, headers=bearer(access)).status_code == 401
    assert is_living(web, token)


def test_a_public_client_can_revoke_an_access_token_for_the_issuer(web: TestClient, alice: str) -> None:
    body = log_in(web)
    assert web.post("/oauth2/revoke", data={"token": body["access_token"], **PUBLIC}).status_code == 200
    assert not is_living(web, body["refresh_token"])


def test_a_public_client_cannot_revoke_tokens_of_another(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    other, _ = register_client(issuer.clients.store, "other", AuthMethod.NONE, frozenset(), (), clock())
    body = log_in(web)
    for token in (body["access_token"], body["refresh_token"], for_service(web)[0]):
        answer = web.post("/oauth2/revoke", data={"token": token, "client_id": other.id})
        assert answer.status_code == 400
    assert is_living(web, body["refresh_token"])
