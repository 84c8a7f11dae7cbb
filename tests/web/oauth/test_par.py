"""Pushed authorization requests, RFC 9126: who may push what, and for how long the `request_uri` stands for it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.authorizing import AUTHORIZE, STATE, App, an_app, answer, asked, page, refused_by_page, sign_in
from support.defaults import MovableClock

from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.throttling.limits import PUSH

PAR = "/oauth2/par"


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


def pushed(web: TestClient, app: App, **changes: str | None) -> dict[str, str]:
    """Push a request; return the parameters that stand for it."""
    response = web.post(PAR, data={**app.request(**changes), **app.credentials})
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["expires_in"] == 60
    return {"client_id": app.client_id, "request_uri": response.json()["request_uri"]}


def refused(response: Any, status: int, error: str) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error), response.text


def test_a_pushed_request_is_answered_as_if_it_had_been_sent(
    web: TestClient, issuer: Issuer, app: App, alice: str
) -> None:
    sign_in(web, issuer, alice)
    given = pushed(web, app, state=" a state ", nonce="n")
    assert given["request_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    beside = {**given, "state": "of an attacker", "redirect_uri": "https://evil.example/", "prompt": "login"}
    answered = answer(asked(web, beside))
    assert answered["state"] == " a state ", "what is sent beside it is ignored"
    assert app.redeems(web, answered["code"]).status_code == 200


@pytest.mark.parametrize("method", [AuthMethod.BASIC, AuthMethod.NONE])
def test_clients_authenticate_as_at_the_token_endpoint(
    web: TestClient, issuer: Issuer, method: AuthMethod
) -> None:
    app = an_app(issuer, method)
    form = app.request(client_id=None) if app.secret else app.request()
    auth = (app.client_id, app.secret) if app.secret else None
    assert web.post(PAR, data=form, auth=auth).status_code == 201
    wrong = (app.client_id, "wrong")
    refused(web.post(PAR, data=app.request(), auth=wrong), 401, "invalid_client")
    refused(web.post(PAR, data=app.request(client_id="unknown")), 401, "invalid_client")


def test_what_the_authorization_endpoint_would_refuse_is_not_stored(web: TestClient, app: App) -> None:
    for changes, error in (
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"scope": "unknown"}, "invalid_scope"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"login_hint": "x" * 16384}, "invalid_request"),
    ):
        refused(web.post(PAR, data={**app.request(**changes), **app.credentials}), 400, error)
    repeated = [*app.request().items(), *app.credentials.items()]
    refused(
        web.post(PAR, content="&".join(f"{name}={value}" for name, value in repeated)), 400, "invalid_request"
    )
    refused(web.post(PAR, json={}), 400, "invalid_request")
    assert web.get(PAR).status_code == 405


def test_it_may_be_loaded_again_until_it_expires_or_a_code_is_issued(
    web: TestClient, issuer: Issuer, app: App, alice: str, clock: MovableClock
) -> None:
    given = pushed(web, app)
    clock.advance(seconds=59)
    assert page(asked(web, given))[0] == page(asked(web, given))[0] == "/signin"
    clock.advance(seconds=1)
    query = "&".join(f"{name}={value}" for name, value in given.items())
    assert "expired" in refused_by_page(web, query)
    sign_in(web, issuer, alice)
    used = pushed(web, app)
    assert answer(asked(web, used))["code"]
    assert "was used" in refused_by_page(web, "&".join(f"{name}={value}" for name, value in used.items()))


def test_the_user_may_take_longer_to_sign_in_than_the_request_uri_lives(
    web: TestClient, issuer: Issuer, app: App, alice: str, clock: MovableClock
) -> None:
    _, ticket = page(asked(web, pushed(web, app, login_hint="x" * 4000)))
    assert len(ticket["ticket"]) < 500, "the ticket names the request, however long that is"
    clock.advance(minutes=30)
    sign_in(web, issuer, alice)
    assert answer(asked(web, ticket))["state"] == STATE
    assert "was used" in refused_by_page(web, f"ticket={ticket['ticket']}")


def test_a_request_uri_is_of_one_client(web: TestClient, issuer: Issuer, app: App) -> None:
    given = pushed(web, app)
    other = an_app(issuer)
    for client_id, request_uri in (
        (other.client_id, given["request_uri"]),
        (app.client_id, given["request_uri"][:-1]),
        (app.client_id, "urn:ietf:params:oauth:request_uri:"),
    ):
        assert "expired" in refused_by_page(web, f"client_id={client_id}&request_uri={request_uri}")
    assert "client_id is missing" in refused_by_page(web, f"request_uri={given['request_uri']}")


def test_a_client_that_must_push_can(web: TestClient, issuer: Issuer, alice: str) -> None:
    app = an_app(issuer, requires_par=True)
    sign_in(web, issuer, alice)
    assert answer(app.asks(web))["error"] == "invalid_request"
    assert answer(asked(web, pushed(web, app)))["code"]


def test_a_public_client_cannot_fill_the_database_from_one_address(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    app = an_app(issuer, AuthMethod.NONE)
    sent = {**app.request(), **app.credentials}
    statuses = [web.post(PAR, data=sent).status_code for _ in range(PUSH.burst + 2)]
    assert statuses == [201] * PUSH.burst + [429] * 2
    clock.advance(seconds=1)
    assert web.post(PAR, data=sent).status_code == 201
    with_a_secret = an_app(issuer)
    assert pushed(web, with_a_secret)


def test_errors_that_depend_on_the_user_are_sent_to_the_client(web: TestClient, app: App) -> None:
    assert answer(asked(web, pushed(web, app, prompt="none")))["error"] == "login_required"


def test_the_endpoints_are_published(web: TestClient) -> None:
    document = web.get("/.well-known/openid-configuration").json()
    assert document["pushed_authorization_request_endpoint"].endswith(PAR)
    assert document["authorization_endpoint"].endswith(AUTHORIZE)
