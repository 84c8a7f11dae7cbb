"""Refresh tokens presented again, from another address, too often, or made up: the answer, and the session.

What is recorded is tested in `test_session_events`, wrong clocks in `test_session_clocks`.
"""

import base64
import uuid
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from support.defaults import MovableClock, bearer
from support.prometheus import Samples
from support.refreshes import PUBLIC, events, is_active, log_in, refresh, rows, successor

from issuer.digests import digest
from issuer.services import Issuer
from issuer.tokens.refresh import ROTATION_BURST, ROTATION_INTERVAL
from issuer.tokens.refresh_text import family_and_proof
from issuer.web.app import create_app

From = Callable[[str], TestClient]


@pytest.fixture
def requests_from(issuer: Issuer, alice: str) -> From:
    """Return a function that makes clients with an address."""
    assert alice
    app = create_app(issuer)
    issuer.keys.node.refresh()

    def at(address: str) -> TestClient:
        return TestClient(app, client=(address, 50000), raise_server_exceptions=False)

    return at


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
    lines = [line for line in logged if "refresh token" in line["event"]]
    assert [line["log_level"] for line in lines] == ["info", "warning", "warning"]
    assert {line["user"] for line in lines} == {alice}
    metrics = Samples(web.get("/metrics").text)
    counted = {
        outcome: metrics.total("issuer_refresh_token_retries_total", outcome=outcome)
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
def test_a_repeat_from_another_address_ends_the_session_and_is_recorded(
    requests_from: From, issuer: Issuer, other: str
) -> None:
    owner, thief = requests_from("203.0.113.7"), requests_from(other)
    first = log_in(owner)["refresh_token"]
    second = successor(owner, first)
    with capture_logs() as logged:
        assert refresh(thief, first).json()["error"] == "invalid_grant"
    assert not is_active(owner, second)
    assert events(issuer) == {"refresh token reused from another address": 1}
    assert [line["log_level"] for line in logged if "reuse detected" in line["event"]] == ["warning"]
    assert Samples(owner.get("/metrics").text).total("issuer_refresh_token_reuses_total") == 1


def test_a_token_used_first_from_another_address_is_detected_when_the_owner_uses_it(
    requests_from: From,
) -> None:
    owner, thief = requests_from("203.0.113.7"), requests_from("198.51.100.7")
    first = log_in(owner)["refresh_token"]
    stolen = successor(thief, first)
    assert refresh(owner, first).status_code == 400
    assert not is_active(thief, stolen)


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
    assert not is_active(web, newest)
    assert events(issuer) == {"refresh token reused": 1}


def test_a_token_without_a_row_is_inactive_and_still_revokes_its_session(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    newest = rotated(web, issuer, first, 3)
    introspected = web.post("/oauth2/introspect", data={"token": first}, auth=machine).json()
    assert introspected == {"active": False}
    assert web.post("/oauth2/revoke", data={"token": first}, auth=machine).status_code == 400
    assert is_active(web, newest)
    assert web.post("/oauth2/revoke", data={"token": first, **PUBLIC}).status_code == 200
    assert not is_active(web, newest)


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
    assert all(is_active(web, each["refresh_token"]) for each in (body, other))


def test_a_replay_by_another_client_does_not_end_the_session(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    first = log_in(web)["refresh_token"]
    newest = rotated(web, issuer, first, 3)
    form = {"grant_type": "refresh_token", "refresh_token": first}
    assert web.post("/oauth2/token", auth=machine, data=form).json()["error"] == "invalid_grant"
    assert is_active(web, newest)


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
