"""`/users/me`: applications of the operator change the password and the profile of a user, and delete the account."""

from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app, sign_in
from support.defaults import ALICE, PASSWORD, bearer
from support.signed_in import browser_of, start_session

from issuer.accounts.profile import Profile
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.throttling.limits import DEVICE
from issuer.web.pages.browser import cookie_name

NEW = "nine calm bisons whisper"
CHANGE = {"password": PASSWORD, "new_password": NEW}


@pytest.fixture
def session(web: TestClient, alice: str) -> dict[str, Any]:
    """The response to alice's log-in."""
    del alice
    session: dict[str, Any] = web.post("/login", data=ALICE).json()
    return session


@pytest.fixture
def headers(session: dict[str, Any]) -> dict[str, str]:
    return bearer(session["access_token"])


def log_in(web: TestClient, password: str = PASSWORD) -> int:
    return web.post("/login", data={**ALICE, "password": password}).status_code


def refresh(web: TestClient, session: dict[str, Any]) -> int:
    form = {"grant_type": "refresh_token", "client_id": "first-party"}
    return web.post("/oauth2/token", data={**form, "refresh_token": session["refresh_token"]}).status_code


# The password


def test_a_changed_password_ends_all_sessions_but_that_of_the_token(
    issuer: Issuer, web: TestClient, alice: str, session: dict[str, Any], headers: dict[str, str]
) -> None:
    other = web.post("/login", data=ALICE).json()
    _, secret = start_session(issuer, alice)
    assert web.post("/users/me/password", json=CHANGE, headers=headers).status_code == 204
    assert (log_in(web), log_in(web, NEW)) == (401, 200)
    assert web.get("/users/me", headers=headers).status_code == 200
    assert refresh(web, session) == 200
    assert refresh(web, other) == 400
    assert issuer.sessions.store.find(secret, issuer.clock()) is None


def test_the_browser_session_of_an_application_stays_and_its_cookie_is_void(
    issuer: Issuer, web: TestClient, alice: str
) -> None:
    session = sign_in(web, issuer, alice)
    cookie = web.cookies[cookie_name(issuer.settings.url)]
    own, neighbour = an_app(issuer, AuthMethod.NONE), an_app(issuer, AuthMethod.NONE)
    tokens, others = (each.redeems(web, each.code(web)).json() for each in (own, neighbour))
    unused = own.code(web)
    headers = bearer(tokens["access_token"])
    assert web.post("/users/me/password", json=CHANGE, headers=headers).status_code == 204
    assert [each.id for each in issuer.sessions.store.active(alice, issuer.clock())[0]] == [session.id]
    assert issuer.sessions.store.find(cookie, issuer.clock()) is None
    assert web.get("/users/me", headers=headers).status_code == 200
    assert web.get("/users/me", headers=bearer(others["access_token"])).status_code == 401
    assert own.redeems(web, unused).status_code == 400


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ("", "missing"),
        ("short", "at least 12"),
        ("password123456", "most common"),
        ("alice12345678", "common"),
    ],
)
def test_a_weak_new_password_is_refused(
    web: TestClient, headers: dict[str, str], new: str, text: str
) -> None:
    answer = web.post("/users/me/password", json={**CHANGE, "new_password": new}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert text in answer.json()["error_description"]
    assert log_in(web) == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/users/me/password"), ("DELETE", "/users/me")])
def test_wrong_passwords_are_counted_as_at_log_in(
    web: TestClient, headers: dict[str, str], method: str, path: str
) -> None:
    for _ in range(DEVICE.free + 1):
        answer = web.request(method, path, json={**CHANGE, "password": "wrong"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert "www-authenticate" not in answer.headers
    answer = web.request(method, path, json=CHANGE, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_attempts")
    assert log_in(web) == 429


# Deletion


def test_a_deleted_account_is_gone_with_its_sessions(
    issuer: Issuer, web: TestClient, alice: str, session: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = web.request("DELETE", "/users/me", json={"password": PASSWORD}, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert issuer.accounts.store.by_id(alice) is None
    assert web.get("/users/me", headers=headers).status_code == 401
    assert (log_in(web), refresh(web, session)) == (401, 400)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users/me/password", CHANGE),
        ("DELETE", "/users/me", CHANGE),
        ("PATCH", "/users/me", {"name": "Mallory"}),
    ],
)
def test_tokens_of_other_applications_change_nothing(
    issuer: Issuer, web: TestClient, alice: str, method: str, path: str, body: dict[str, str]
) -> None:
    browser, _ = browser_of(issuer, web, alice)
    before = issuer.accounts.store.by_id(alice)
    foreign = an_app(issuer, AuthMethod.NONE, is_trusted=False)
    page = browser.open(f"{issuer.settings.url}/oauth2/authorize?{urlencode(foreign.request())}")
    token = foreign.redeems(web, browser.allow(page).parameters["code"]).json()["access_token"]
    answer = web.request(method, path, json=body, headers=bearer(token))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert issuer.accounts.store.by_id(alice) == before


def test_tokens_of_a_trusted_application_change_nothing_once_it_is_disabled(
    issuer: Issuer, web: TestClient, alice: str
) -> None:
    browser, _ = browser_of(issuer, web, alice)
    app = an_app(issuer, AuthMethod.NONE)
    page = browser.open(f"{issuer.settings.url}/oauth2/authorize?{urlencode(app.request())}")
    token = app.redeems(web, page.parameters["code"]).json()["access_token"]
    assert web.patch("/users/me", json={"name": "Alice"}, headers=bearer(token)).status_code == 200
    issuer.clients.store.set_disabled(app.client_id, issuer.clock())
    assert web.patch("/users/me", json={"name": "Mallory"}, headers=bearer(token)).status_code == 401


def test_the_devices_of_an_account_are_forgotten_when_its_user_deletes_it(
    issuer: Issuer, web: TestClient, headers: dict[str, str]
) -> None:
    def known() -> int:
        limits = issuer.accounts.limits.state("alice", issuer.clock())
        return limits.known_devices + limits.known_networks

    assert known() == 2
    web.cookies.clear()  # another device, which the log-in of the deletion remembers
    answer = web.request("DELETE", "/users/me", json={"password": PASSWORD}, headers=headers)
    assert (answer.status_code, known()) == (204, 0)


# The profile


def test_users_change_their_name_and_address(
    issuer: Issuer, web: TestClient, alice: str, headers: dict[str, str]
) -> None:
    issuer.accounts.store.set_profile(alice, Profile("Alice", "a@example.com", True), issuer.clock())
    shown = web.get("/users/me", headers=headers).json()
    assert (shown["name"], shown["email"], shown["email_verified"]) == ("Alice", "a@example.com", True)
    answer = web.patch("/users/me", json={"name": "Alice Liddell"}, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {**shown, "name": "Alice Liddell"})
    answer = web.patch("/users/me", json={"email": "new@example.com", "password": PASSWORD}, headers=headers)
    assert answer.json() == {
        **shown, "name": "Alice Liddell", "email": "new@example.com", "email_verified": False,
    }  # fmt: skip
    answer = web.patch("/users/me", json={"name": None, "email": "", "password": PASSWORD}, headers=headers)
    assert (answer.json()["name"], answer.json()["email"]) == (None, None)
    assert web.get("/users/me", headers=headers).json() == answer.json()


@pytest.mark.parametrize("email", ["mallory@example.com", "", None])
@pytest.mark.parametrize(
    ("proof", "error"), [({}, "invalid_request"), ({"password": "wrong"}, "invalid_grant")]
)
def test_an_access_token_alone_neither_replaces_nor_removes_the_address(
    issuer: Issuer, web: TestClient, alice: str, headers: dict[str, str], proof: dict[str, str], error: str,
    email: str | None,
) -> None:  # fmt: skip
    issuer.accounts.store.set_profile(alice, Profile("Alice", "a@example.com", True), issuer.clock())
    before = web.get("/users/me", headers=headers).json()
    answer = web.patch("/users/me", json={"name": "M", "email": email, **proof}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert web.get("/users/me", headers=headers).json() == before
    same = web.patch("/users/me", json={"name": "Alice L.", "email": "a@example.com"}, headers=headers)
    assert same.json() == {**before, "name": "Alice L."}


@pytest.mark.parametrize(
    "change", [{"name": "x" * 201}, {"name": "a\x07b"}, {"email": "nobody"}, {"name": 1}]
)
def test_a_value_that_is_not_accepted_changes_nothing(
    web: TestClient, headers: dict[str, str], change: dict[str, object]
) -> None:
    before = web.get("/users/me", headers=headers).json()
    answer = web.patch("/users/me", json=change, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert web.get("/users/me", headers=headers).json() == before
