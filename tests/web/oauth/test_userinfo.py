"""The userinfo endpoint: which claims a token releases, how it is sent, and when it ends."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from support.authorizing import App, an_app, sign_in
from support.defaults import ALICE, MovableClock, bearer

from issuer.accounts.profile import Profile
from issuer.database.database import Database
from issuer.services import Issuer

PATH = "/oauth2/userinfo"
NAMED: dict[str, Any] = {"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True}


@pytest.fixture
def app(issuer: Issuer, web: TestClient, alice: str) -> App:
    """An application to which alice signs in."""
    sign_in(web, issuer, alice)
    return an_app(issuer)


def access_token(web: TestClient, app: App, **request: Any) -> str:
    token: str = app.redeems(web, app.code(web, **request)).json()["access_token"]
    return token


def userinfo(web: TestClient, token: str) -> Response:
    return web.get(PATH, headers=bearer(token))


def challenge(answer: Response) -> str:
    header: str = answer.headers["www-authenticate"]
    return header


@pytest.mark.parametrize(
    ("scope", "released"),
    [
        ("openid", {"sub"}),
        ("openid profile", {"sub", "name", "preferred_username", "updated_at"}),
        ("openid email", {"sub", "email", "email_verified"}),
        ("openid items:read offline_access", {"sub"}),
    ],
)
def test_each_scope_releases_its_claims(
    web: TestClient, issuer: Issuer, app: App, alice: str, scope: str, released: set[str]
) -> None:
    issuer.accounts.store.set_profile(alice, Profile(**NAMED), issuer.clock())
    answer = userinfo(web, access_token(web, app, scope=scope))
    everything = {
        "sub": alice,
        "preferred_username": "alice",
        "updated_at": int(issuer.clock().timestamp()),
        **NAMED,
    }
    assert answer.json() == {name: everything[name] for name in released}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


def test_a_claim_without_a_value_is_left_out(web: TestClient, app: App, alice: str) -> None:
    body = userinfo(web, access_token(web, app, scope="openid profile email")).json()
    assert body.keys() == {"sub", "preferred_username", "updated_at"}


def test_claims_requested_by_name_are_released_as_well(
    web: TestClient, issuer: Issuer, app: App, alice: str
) -> None:
    issuer.accounts.store.set_profile(alice, Profile(**NAMED), issuer.clock())
    requested = json.dumps({"userinfo": {"name": {"essential": True}, "birthdate": None}})
    body = userinfo(web, access_token(web, app, scope="openid", claims=requested)).json()
    assert body == {"sub": alice, "name": "Alice Liddell"}


@pytest.mark.parametrize("form", [{}, {"other": "x"}, None])
def test_the_token_is_read_from_the_header_or_from_a_form(
    web: TestClient, app: App, alice: str, form: dict[str, str] | None
) -> None:
    token = access_token(web, app)
    in_header = web.post(PATH, headers=bearer(token), data=form)
    in_form = web.post(PATH, data={"access_token": token, **(form or {})})
    assert in_header.json() == in_form.json() == {"sub": alice}


def test_a_token_in_two_places_is_refused(web: TestClient, app: App) -> None:
    token = access_token(web, app)
    answer = web.post(PATH, headers=bearer(token), data={"access_token": token})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    repeated = web.post(
        PATH,
        content=f"access_token={token}&access_token={token}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (repeated.status_code, repeated.json()["error"]) == (400, "invalid_request")


def test_a_token_in_the_url_or_in_the_form_of_a_get_is_not_read(web: TestClient, app: App) -> None:
    token = access_token(web, app)
    for answer in (
        web.get(PATH, params={"access_token": token}),
        web.post(PATH, params={"access_token": token}),
        web.post(PATH, json={"access_token": token}),
        web.request("GET", PATH, data={"access_token": token}),
        web.get(PATH),
    ):
        assert (answer.status_code, challenge(answer)) == (
            401,
            "Bearer",
        )  # RFC 6750 section 3.1: no error code


def test_a_token_without_openid_is_refused_with_the_scope_that_it_needs(web: TestClient, app: App) -> None:
    answer = userinfo(web, access_token(web, app, scope="items:read"))
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert challenge(answer).startswith('Bearer error="insufficient_scope", ')
    assert challenge(answer).endswith(', scope="openid"')


def test_a_token_for_other_services_only_is_refused(
    web: TestClient, issuer: Issuer, alice: str, app: App, machine: tuple[str, str]
) -> None:
    service = issuer.settings.audience
    machines = web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine).json()
    for token in (
        access_token(web, app, resource=service),
        machines["access_token"],
        app.redeems(web, app.code(web)).json()["id_token"],
        "no-token",
    ):
        answer = userinfo(web, token)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        assert challenge(answer).startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize(
    "ended", ["its session", "the browser session", "the account", "the client", "its lifetime"]
)
def test_userinfo_ends_with(
    web: TestClient, issuer: Issuer, alice: str, clock: MovableClock, ended: str
) -> None:
    session = sign_in(web, issuer, alice)
    app = an_app(issuer)
    token = access_token(web, app)
    assert userinfo(web, token).status_code == 200
    now, families = clock(), issuer.tokens.families
    match ended:
        case "its session":
            families.end_all(now, alice)
        case "the browser session":
            families.end_browser_session(session.id, now)
        case "the account":
            families.disable(alice, now)
        case "the client":
            issuer.clients.store.set_disabled(app.client_id, now)
        case _:
            clock.advance(seconds=601)
            issuer.keys.node.refresh()
    assert userinfo(web, token).status_code == 401


def test_the_endpoint_answers_unavailable_without_its_database(
    web: TestClient, issuer: Issuer, app: App
) -> None:
    token = access_token(web, app)
    _break(issuer.database)
    assert userinfo(web, token).status_code == 503


def _break(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE families RENAME TO gone")


def test_a_log_in_by_password_has_userinfo_too_if_the_account_has_the_scope(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    issuer.accounts.store.set_scope(alice, frozenset({"openid", "profile"}))
    token = web.post("/login", data=ALICE).json()["access_token"]
    assert userinfo(web, token).json()["preferred_username"] == "alice"
