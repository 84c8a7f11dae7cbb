"""Sessions: listed and ended by their owner, by clients and by reuse; introspection of their tokens."""

import uuid
from collections.abc import Mapping
from datetime import datetime

import httpx2
import jwt
import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, REFRESH_GRACE, START, MovableClock, bearer
from support.prometheus import Samples

from issuer.administration.clients import register_client
from issuer.administration.users import disable_user, set_password
from issuer.keyring.ring import KeyRing
from issuer.maintenance.pruning import prune
from issuer.oauth import AuthMethod
from issuer.services import Issuer


def log_in(web: TestClient, agent: str = "a browser") -> dict[str, str]:
    answer = web.post("/login", data=ALICE, headers={"User-Agent": agent})
    assert answer.status_code == 200
    body: dict[str, str] = answer.json()
    return body


def refresh(web: TestClient, token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
    return web.post("/oauth2/token", data=form)


def sessions(web: TestClient, token: str) -> list[dict[str, str]]:
    answer = web.get("/users/me/sessions", headers=bearer(token))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found: list[dict[str, str]] = answer.json()["sessions"]
    return found


def revoke(web: TestClient, token: str, client: Mapping[str, str] | tuple[str, str]) -> httpx2.Response:
    if isinstance(client, tuple):
        return web.post("/oauth2/revoke", data={"token": token}, auth=client)
    return web.post("/oauth2/revoke", data={"token": token, **client})


def introspect(web: TestClient, token: str, client: tuple[str, str]) -> dict[str, object]:
    answer = web.post("/oauth2/introspect", data={"token": token}, auth=client)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body: dict[str, object] = answer.json()
    return body


FIRST_PARTY = {"client_id": "first-party"}
INACTIVE = {"active": False}


def machine_token(web: TestClient, machine: tuple[str, str]) -> str:
    answer = web.post("/oauth2/token", auth=machine, data={"grant_type": "client_credentials"})
    token: str = answer.json()["access_token"]
    return token


# Seen and ended by their owner


def test_a_user_sees_the_origin_of_each_session_and_the_current_one(
    web: TestClient, alice: str, clock: MovableClock
) -> None:
    log_in(web, "a phone")
    clock.advance(seconds=10)
    here = log_in(web, "a laptop")
    clock.advance(seconds=10)
    assert refresh(web, here["refresh_token"]).status_code == 200
    this, other = sessions(web, here["access_token"])
    assert (this["user_agent"], this["current"], other["user_agent"], other["current"]) == (
        "a laptop",
        True,
        "a phone",
        False,
    )
    assert this["address"] == "testclient"
    assert this["used_at"] == this["created_at"] == "2026-01-01T00:00:00Z"


def test_a_user_can_end_only_own_sessions(web: TestClient, alice: str) -> None:
    phone, laptop = log_in(web), log_in(web)
    bob = {**ALICE, "username": "bob"}
    web.post("/users", json=bob)
    stranger = web.post("/login", data=bob).json()["access_token"]
    session = next(each["id"] for each in sessions(web, laptop["access_token"]) if not each["current"])

    def end(token: str) -> int:
        return web.delete(f"/users/me/sessions/{session}", headers=bearer(token)).status_code

    assert end(stranger) == 404
    assert end(laptop["access_token"]) == 204
    assert end(laptop["access_token"]) == 404
    assert refresh(web, phone["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(web, laptop["refresh_token"]).status_code == 200


def test_logging_out_ends_the_session_and_its_access_token_at_the_issuer(web: TestClient, alice: str) -> None:
    phone, laptop = log_in(web), log_in(web)
    answer = web.post("/logout", headers=bearer(laptop["access_token"]))
    assert (answer.status_code, answer.content) == (204, b"")
    assert refresh(web, laptop["refresh_token"]).status_code == 400
    assert web.get("/users/me", headers=bearer(laptop["access_token"])).status_code == 401
    assert refresh(web, phone["refresh_token"]).status_code == 200


def test_logging_out_everywhere_ends_only_sessions_of_this_user(web: TestClient, alice: str) -> None:
    phone, laptop = log_in(web), log_in(web)
    bob = {**ALICE, "username": "bob"}
    web.post("/users", json=bob)
    other = web.post("/login", data=bob).json()
    answer = web.post("/logout", params={"everywhere": "true"}, headers=bearer(laptop["access_token"]))
    assert answer.status_code == 204
    assert {refresh(web, each["refresh_token"]).status_code for each in (phone, laptop)} == {400}
    assert refresh(web, other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("session", ["nope", "a%00b", "x" * 300, "%F0%9F%98%80", str(uuid.UUID(int=7))])
def test_a_session_of_another_user_is_not_found(web: TestClient, alice: str, session: str) -> None:
    answer = web.delete(f"/users/me/sessions/{session}", headers=bearer(log_in(web)["access_token"]))
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/logout", "/users/me/sessions"])
def test_sessions_are_listed_for_a_token_of_one_only(
    web: TestClient, machine: tuple[str, str], path: str
) -> None:
    method = "POST" if path == "/logout" else "GET"
    assert web.request(method, path).headers["www-authenticate"] == "Bearer"
    answer = web.request(method, path, headers=bearer(machine_token(web, machine)))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


@pytest.mark.parametrize("move", ["rotate", "revoke"])
def test_sessions_stay_valid_after_a_rotation_or_revocation_of_the_key(
    web: TestClient, alice: str, issuer: Issuer, move: str
) -> None:
    body = log_in(web)
    kid = issuer.keys.node.view.ring.current(START).kid

    def perform(ring: KeyRing, now: datetime) -> KeyRing:
        if move == "rotate":
            return ring.promoted(issuer.policy, now)
        return ring.revoked(kid, "a test", issuer.policy, now)

    issuer.keys.rotation.change(perform)
    issuer.keys.node.refresh()
    answer = refresh(web, body["refresh_token"])
    assert answer.status_code == 200
    assert jwt.get_unverified_header(answer.json()["access_token"])["kid"] != kid


# Replays


def test_a_replay_after_the_grace_ends_the_session_and_is_counted_and_audited_once(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    body = log_in(web)
    successor = refresh(web, body["refresh_token"]).json()["refresh_token"]
    session = sessions(web, body["access_token"])[0]["id"]
    clock.advance(seconds=REFRESH_GRACE.total_seconds() + 1)
    replays = [refresh(web, body["refresh_token"]) for _ in range(3)]
    assert {answer.json()["error"] for answer in (*replays, refresh(web, successor))} == {"invalid_grant"}
    [event], _ = issuer.tokens.session_events.newest(10)
    assert (event.event, event.count, event.user_id) == ("refresh token reused", 1, alice)
    assert (event.session, event.client_id, event.last_at) == (session, "first-party", clock())
    assert Samples(web.get("/metrics").text).total("issuer_refresh_token_reuses_total") == 1


# Revocation, RFC 7009


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_client_can_revoke_its_own_token_and_session_repeatedly(
    web: TestClient, alice: str, kind: str
) -> None:
    body = log_in(web)
    for _ in range(2):
        answer = revoke(web, body[kind], FIRST_PARTY)
        assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (200, b"", "no-store")
    assert refresh(web, body["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_used_refresh_token_still_revokes_its_session(web: TestClient, alice: str) -> None:
    first = log_in(web)["refresh_token"]
    second = refresh(web, first).json()["refresh_token"]
    assert revoke(web, first, FIRST_PARTY).status_code == 200
    assert refresh(web, second).status_code == 400


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_token_of_another_client_is_not_revoked(
    web: TestClient, alice: str, machine: tuple[str, str], kind: str
) -> None:
    body = log_in(web)
    answer = revoke(web, body[kind], machine)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    assert refresh(web, body["refresh_token"]).status_code == 200


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "é" * 10, "x" * 9000])
def test_revoking_an_unknown_token_is_not_an_error(
    web: TestClient, machine: tuple[str, str], token: str
) -> None:
    assert revoke(web, token, machine).status_code == 200


def test_a_token_that_cannot_be_revoked_is_an_error(web: TestClient, machine: tuple[str, str]) -> None:
    answer = revoke(web, machine_token(web, machine), machine)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")


@pytest.mark.parametrize("path", ["/oauth2/revoke", "/oauth2/introspect"])
def test_introspection_needs_a_client_and_a_token(
    web: TestClient, machine: tuple[str, str], path: str
) -> None:
    wrong = web.post(path, data={"token": "x"}, auth=(machine[0], "wrong"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic ")
    missing = web.post(path, data={"token": ""}, auth=machine)
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")
    twice = web.post(
        path, content="token=a&token=b", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")
    assert web.get(path).status_code == 405


# Introspection, RFC 7662


def test_introspection_of_a_valid_access_token_returns_its_claims(
    web: TestClient, alice: str, machine: tuple[str, str]
) -> None:
    introspected = introspect(web, log_in(web)["access_token"], machine)
    assert introspected.pop("jti")
    assert introspected == {
        "active": True,
        "token_type": "Bearer",
        "iss": "http://127.0.0.1:8000",
        "sub": alice,
        "aud": ["http://127.0.0.1:8001", "http://127.0.0.1:8000"],
        "client_id": "first-party",
        "iat": int(START.timestamp()),
        "exp": int(START.timestamp()) + 600,
        "scope": "items:read items:write",
        "username": "alice",
    }
    introspected = introspect(web, machine_token(web, machine), machine)
    assert (introspected["active"], introspected["sub"]) == (True, machine[0])


def test_a_public_client_may_not_introspect(web: TestClient, alice: str) -> None:
    form = {"token": log_in(web)["access_token"], **FIRST_PARTY}
    answer = web.post("/oauth2/introspect", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "happens", ["expired", "logged out", "disabled", "password changed", "key revoked", "client disabled"]
)
def test_an_invalid_token_is_inactive_without_details(
    web: TestClient,
    alice: str,
    machine: tuple[str, str],
    issuer: Issuer,
    clock: MovableClock,
    happens: str,
) -> None:
    token = log_in(web)["access_token"]
    other, secret = register_client(issuer.clients.store, "other", AuthMethod.POST, frozenset(), (), START)
    assert secret
    theirs = machine_token(web, (other.id, secret))
    asked = theirs if happens == "client disabled" else token
    assert introspect(web, asked, machine)["active"]
    user = issuer.accounts.store.by_id(alice)
    assert user
    match happens:
        case "expired":
            clock.advance(minutes=10)
        case "logged out":
            web.post("/logout", headers=bearer(token))
        case "disabled":
            disable_user(issuer.tokens.families, user, clock())
        case "password changed":
            set_password(
                issuer.tokens.families, issuer.accounts.passwords, user, "several other pancakes", clock()
            )
        case "key revoked":
            kid = issuer.keys.node.view.ring.current(clock()).kid
            issuer.keys.rotation.change(
                lambda ring, now: ring.revoked(kid, "a test", issuer.policy, now), emergency=True
            )
            issuer.keys.node.refresh()
        case "client disabled":
            issuer.clients.store.set_disabled(other.id, clock())
    assert introspect(web, asked, machine) == INACTIVE


def test_introspection_of_a_refresh_token_is_for_its_own_client_only(
    web: TestClient, alice: str, machine: tuple[str, str]
) -> None:
    assert introspect(web, log_in(web)["refresh_token"], machine) == INACTIVE


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "é" * 10, "x" * 9000])
def test_an_unknown_token_is_inactive(web: TestClient, machine: tuple[str, str], token: str) -> None:
    assert introspect(web, token, machine) == INACTIVE


# Pruning


def test_rows_that_are_no_longer_needed_are_deleted_and_no_others(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    ended, living = log_in(web), log_in(web)
    web.post("/logout", headers=bearer(ended["access_token"]))
    living = refresh(web, living["refresh_token"]).json()
    assert prune(issuer.database, clock()) == 0
    clock.advance(days=2)
    issuer.keys.node.refresh()
    assert prune(issuer.database, clock()) == 3  # a session, its one token, and that an account was made
    assert prune(issuer.database, clock()) == 0
    assert refresh(web, living["refresh_token"]).status_code == 200
    clock.advance(days=2 * 365)
    while prune(issuer.database, clock()):
        pass
    with issuer.database.read() as connection:
        for table in ("families", "refresh_tokens", "throttle", "devices", "assertions"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0  # noqa: S608
