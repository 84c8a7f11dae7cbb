"""`POST /oauth2/token`: client authentication, resources, refresh, and errors in the form of OAuth."""

import base64

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, START, MovableClock
from support.endpoints import SERVICE, refresh, verified

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer


def test_a_machine_gets_a_token_by_basic_and_by_post(web: TestClient, machine: tuple[str, str]) -> None:
    grant = {"grant_type": "client_credentials"}
    basic = web.post("/oauth2/token", auth=machine, data=grant)
    post = web.post("/oauth2/token", data={**grant, "client_id": machine[0], "client_secret": machine[1]})
    for answer in (basic, post):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert "refresh_token" not in answer.json()
        claims = verified(web, answer.json()["access_token"])
        assert (claims["sub"], claims["client_id"], claims["aud"]) == (machine[0], machine[0], [SERVICE])
        assert claims["scope"] == "items:read"
        assert "username" not in claims


def test_credentials_of_a_client_may_be_form_encoded_in_the_basic_header(
    web: TestClient, machine: tuple[str, str]
) -> None:
    encoded = base64.b64encode(f"{machine[0].replace('-', '%2D')}:{machine[1]}".encode()).decode()
    answer = web.post(
        "/oauth2/token",
        headers={"Authorization": f"Basic {encoded}"},
        data={"grant_type": "client_credentials"},
    )
    assert answer.status_code == 200


def test_all_failures_of_client_authentication_have_the_same_response(
    web: TestClient, machine: tuple[str, str], issuer: Issuer
) -> None:
    grant = {"grant_type": "client_credentials"}
    answers = [
        web.post("/oauth2/token", auth=(machine[0], "wrong"), data=grant),
        web.post("/oauth2/token", auth=("unknown", machine[1]), data=grant),
        web.post("/oauth2/token", data={**grant, "client_id": machine[0]}),
        web.post("/oauth2/token", data={**grant, "client_id": "first-party", "client_secret": "x"}),
        web.post("/oauth2/token", headers={"Authorization": "Basic !"}, data=grant),
        web.post("/oauth2/token", headers={"Authorization": "Bearer x"}, data=grant),
    ]
    issuer.clients.store.set_disabled(machine[0], START)
    answers.append(web.post("/oauth2/token", auth=machine, data=grant))
    for answer in answers:
        assert answer.status_code == 401
        assert answer.content == answers[0].content
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answers[0].json()["error"] == "invalid_client"
    nobody = web.post("/oauth2/token", data=grant)
    assert (nobody.status_code, nobody.json()["error"]) == (401, "invalid_client")
    assert "client_id is missing" in nobody.json()["error_description"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("scope=a", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_id=another", "invalid_request"),
        ("grant_type=%ff", "invalid_request"),
        ("grant_type=é", "unsupported_grant_type"),
        ("&".join(f"a{number}=1" for number in range(60)), "invalid_request"),
        ("grant_type=urn:ietf:params:oauth:grant-type:device_code", "unsupported_grant_type"),
        ("grant_type=authorization_code", "unauthorized_client"),
        ("grant_type=password&username=a&password=b", "unauthorized_client"),
        ("grant_type=client_credentials&scope=admin", "invalid_scope"),
        ("grant_type=client_credentials&scope=a++b", "invalid_scope"),
        ("grant_type=client_credentials&resource=https://elsewhere.example", "invalid_target"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=unknown", "invalid_grant"),
    ],
)
def test_the_token_endpoint_answers_errors_as_oauth_has_them(
    web: TestClient, machine: tuple[str, str], form: str, error: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = web.post("/oauth2/token", auth=machine, content=form.encode(), headers=headers)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error", "error_description"}
    assert answer.json()["error"] == error
    assert answer.headers["cache-control"] == "no-store"


def test_the_token_endpoint_takes_forms_only_and_no_get(web: TestClient) -> None:
    assert web.post("/oauth2/token", json={"grant_type": "password"}).json()["error"] == "invalid_request"
    assert web.get("/oauth2/token").status_code == 405


def test_a_resource_among_the_clients_audiences_becomes_the_audience(web: TestClient, issuer: Issuer) -> None:
    client, secret = register_client(
        issuer.clients.store,
        "two",
        AuthMethod.BASIC,
        frozenset(),
        ("https://a.example", "https://b.example"),
        START,
    )
    form = {"grant_type": "client_credentials", "resource": "https://b.example"}
    token = web.post("/oauth2/token", auth=(client.id, secret or ""), data=form).json()["access_token"]
    assert verified(web, token, "https://b.example")["aud"] == ["https://b.example"]
    both = web.post(
        "/oauth2/token", auth=(client.id, secret or ""), data={"grant_type": "client_credentials"}
    )
    assert verified(web, both.json()["access_token"], "https://a.example")["aud"] == list(client.audiences)


def test_a_refresh_token_yields_a_new_access_token_and_its_successor(web: TestClient, alice: str) -> None:
    first = web.post("/login", data=ALICE).json()
    second = refresh(web, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert verified(web, second["access_token"])["sub"] == alice
    assert refresh(web, second["refresh_token"]).status_code == 200


def test_within_the_grace_window_a_used_token_yields_the_same_successor(
    web: TestClient, alice: str, clock: MovableClock
) -> None:
    first = web.post("/login", data=ALICE).json()["refresh_token"]
    successor = refresh(web, first).json()["refresh_token"]
    clock.advance(seconds=29)
    assert refresh(web, first).json()["refresh_token"] == successor


def test_after_the_grace_window_a_used_token_ends_the_family(
    web: TestClient, alice: str, clock: MovableClock
) -> None:
    first = web.post("/login", data=ALICE).json()["refresh_token"]
    successor = refresh(web, first).json()["refresh_token"]
    clock.advance(seconds=31)
    assert refresh(web, first).json()["error"] == "invalid_grant"
    assert refresh(web, successor).json()["error"] == "invalid_grant"


def test_a_refresh_token_is_bound_to_its_client(
    web: TestClient, alice: str, machine: tuple[str, str], issuer: Issuer
) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert web.post("/oauth2/token", auth=machine, data=form).json()["error"] == "invalid_grant"
    assert refresh(web, token).status_code == 200


def test_a_refresh_may_narrow_the_scope_and_never_widen_it(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    token = web.post("/login", data={**ALICE, "scope": "items:read"}).json()["refresh_token"]
    assert refresh(web, token, scope="items:write").json()["error"] == "invalid_scope"
    narrowed = refresh(web, token, scope="items:read").json()
    assert narrowed["scope"] == "items:read"
    issuer.accounts.store.set_scope(alice, frozenset())
    assert refresh(web, narrowed["refresh_token"]).json()["scope"] == ""


def test_an_unused_refresh_token_expires(web: TestClient, alice: str, clock: MovableClock) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    clock.advance(days=30)
    assert refresh(web, token).json()["error"] == "invalid_grant"


def test_a_session_ends_for_good_however_often_it_is_refreshed(
    web: TestClient, alice: str, clock: MovableClock, issuer: Issuer
) -> None:
    token = web.post("/login", data=ALICE).json()["refresh_token"]
    answer = None
    for _ in range(15):
        clock.advance(days=29)
        issuer.keys.node.refresh()
        answer = refresh(web, token)
        token = answer.json().get("refresh_token", token)
    assert answer is not None
    assert answer.json()["error"] == "invalid_grant"
