"""A client that an operator narrows: sessions, codes, pushed requests and tokens give no more than it may have."""

from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import CALLBACK, App, an_app, answer, sign_in
from support.defaults import ALICE, MovableClock
from support.endpoints import ISSUER, SERVICE

from issuer.administration.client_changes import ClientChanges, change_client
from issuer.clients.resources import Resource
from issuer.oauth import AuthMethod, GrantType
from issuer.services import Issuer

ALL = "openid items:read items:write offline_access"
BILLING = "https://billing.example"


@pytest.fixture
def app(web: TestClient, issuer: Issuer, alice: str) -> App:
    sign_in(web, issuer, alice)
    return an_app(issuer, scope="items:read items:write", audiences=(SERVICE, BILLING))


@pytest.fixture
def change(issuer: Issuer, clock: MovableClock) -> Any:
    def changed(app: App, **changes: Any) -> None:
        change_client(issuer.database, app.client_id, ClientChanges(**changes), issuer.clock())
        clock.advance(seconds=1)  # how long a process uses a client as it was looked up

    return changed


def scopes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def claims(body: dict[str, Any]) -> dict[str, Any]:
    return dict(jwt.decode(body["access_token"], options={"verify_signature": False}))


def started(web: TestClient, app: App, **changes: str) -> dict[str, Any]:
    response = app.redeems(web, app.code(web, scope=ALL, **changes))
    assert response.status_code == 200, response.text
    return dict(response.json())


def refreshed(web: TestClient, app: App, body: dict[str, Any], **changes: str) -> dict[str, Any]:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": body["refresh_token"],
        **app.credentials,
        **changes,
    }
    return dict(web.post("/oauth2/token", data=form).json())


def introspected(web: TestClient, app: App, token: str) -> dict[str, Any]:
    return dict(web.post("/oauth2/introspect", data={"token": token, **app.credentials}).json())


def test_a_session_gets_no_more_scope_than_its_client_may_have_and_keeps_what_users_grant_alone(
    web: TestClient, app: App, change: Any
) -> None:
    body = started(web, app)
    change(app, removed_scope=scopes("items:write"))
    body = refreshed(web, app, body)
    assert body["scope"] == claims(body)["scope"] == "items:read offline_access openid"
    assert refreshed(web, app, body, scope="items:write")["error"] == "invalid_scope"
    change(app, scope=frozenset())
    body = refreshed(web, app, body)
    assert body["scope"] == "offline_access openid"
    change(app, scope=scopes("items:read items:write tickets:read"))
    assert refreshed(web, app, body)["scope"] == "items:read items:write offline_access openid"


def test_a_session_gets_no_audience_that_its_client_may_not_have(
    web: TestClient, app: App, change: Any
) -> None:
    body = started(web, app)
    assert claims(body)["aud"] == [SERVICE, BILLING, ISSUER]
    change(app, audiences=(f"{BILLING}/",))
    body = refreshed(web, app, body)
    assert claims(body)["aud"] == [f"{BILLING}/", ISSUER], "as it is registered now"
    assert refreshed(web, app, body, resource=SERVICE)["error"] == "invalid_target"
    change(app, audiences=("https://other.example",))
    refused = refreshed(web, app, body)
    assert (refused["error"], "no audience" in refused["error_description"]) == ("invalid_grant", True)
    change(app, audiences=(BILLING,))
    assert claims(refreshed(web, app, body))["aud"] == [BILLING, ISSUER], "the token was not used up"


def test_a_session_for_a_resource_ends_in_effect_when_that_is_open_no_longer(
    web: TestClient, issuer: Issuer, app: App, clock: MovableClock
) -> None:
    tools = "https://tools.example"
    issuer.clients.resources.add(Resource(tools, clock(), is_open=True))
    body = started(web, app, resource=tools)
    body = refreshed(web, app, body)
    assert claims(body)["aud"] == [tools]
    issuer.clients.resources.remove(tools)
    assert refreshed(web, app, body)["error"] == "invalid_grant"


@pytest.mark.parametrize("left", [GrantType.REFRESH_TOKEN, GrantType.AUTHORIZATION_CODE])
def test_a_grant_that_was_taken_away_refuses(web: TestClient, app: App, change: Any, left: GrantType) -> None:
    body = started(web, app)
    signs_in = left is GrantType.AUTHORIZATION_CODE
    change(
        app, grant_types=frozenset({left}), **({} if signs_in else {"redirect_uris": (), "is_trusted": False})
    )
    assert refreshed(web, app, body)["error"] == "unauthorized_client"
    assert introspected(web, app, body["refresh_token"]) == {"active": False}
    assert introspected(web, app, body["access_token"])["active"] is signs_in
    header = {"Authorization": f"Bearer {body['access_token']}"}
    assert web.get("/oauth2/userinfo", headers=header).status_code == (200 if signs_in else 401)


def test_a_code_gives_no_more_than_its_client_may_have_when_it_is_redeemed(
    web: TestClient, app: App, change: Any
) -> None:
    code = app.code(web, scope=ALL)
    change(app, removed_scope=scopes("items:write"), audiences=(BILLING,))
    body = app.redeems(web, code).json()
    assert (body["scope"], claims(body)["aud"]) == ("items:read offline_access openid", [BILLING, ISSUER])
    change(app, added_scope=scopes("items:write"))
    assert refreshed(web, app, body)["scope"] == body["scope"], "the session never had more"


def test_a_code_is_not_redeemed_after_its_redirect_uri_or_all_its_audiences_were_removed(
    web: TestClient, app: App, change: Any
) -> None:
    other = "https://app.example/other"
    for changes in ({"redirect_uris": (other,)}, {"audiences": ("https://other.example",)}):
        code = app.code(web)
        change(app, **changes)
        assert app.redeems(web, code).json()["error"] == "invalid_grant"
        change(app, redirect_uris=(CALLBACK,), audiences=(SERVICE,))
        assert app.redeems(web, code).status_code == 200, "a refused attempt does not use up the code"


def test_a_code_without_pkce_is_not_redeemed_after_the_client_must_use_it(
    web: TestClient, issuer: Issuer, app: App, change: Any
) -> None:
    lax = an_app(issuer, requires_pkce=False)
    code = lax.code(web, code_challenge=None, code_challenge_method=None)
    change(lax, requires_pkce=True)
    assert "PKCE" in lax.redeems(web, code, code_verifier=None).json()["error_description"]


def test_a_code_that_was_given_for_trust_alone_is_void_when_the_client_is_trusted_no_longer(
    web: TestClient, app: App, change: Any
) -> None:
    code = app.code(web)
    change(app, is_trusted=False)
    assert app.redeems(web, code).json()["error"] == "invalid_grant"
    assert app.asks(web).headers["location"].startswith("/consent")


def test_a_pushed_request_is_bounded_by_what_the_client_may_have_when_it_is_used(
    web: TestClient, app: App, change: Any
) -> None:
    sent = {**app.request(scope=ALL), **app.credentials}
    uri = web.post("/oauth2/par", data=sent).json()["request_uri"]
    change(app, removed_scope=scopes("items:write"))
    query = {"client_id": app.client_id, "request_uri": uri}
    response = web.get("/oauth2/authorize", params=query, follow_redirects=False)
    assert app.redeems(web, answer(response)["code"]).json()["scope"] == "items:read offline_access openid"


def test_introspection_tells_what_is_left_of_a_token(web: TestClient, app: App, change: Any) -> None:
    body = started(web, app)
    change(app, scope=scopes("items:read"), audiences=(BILLING,))
    access = introspected(web, app, body["access_token"])
    assert (access["scope"], access["aud"]) == ("items:read offline_access openid", [BILLING, ISSUER])
    assert introspected(web, app, body["refresh_token"])["scope"] == "items:read offline_access openid"
    change(app, audiences=("https://other.example",))
    for token in ("access_token", "refresh_token"):
        assert introspected(web, app, body[token]) == {"active": False}


def test_introspection_tells_what_is_left_of_the_token_of_a_machine(
    web: TestClient, issuer: Issuer, app: App, change: Any
) -> None:
    machine = an_app(issuer, AuthMethod.POST, "a b", redirect_uris=[], is_trusted=False)
    form = {"grant_type": "client_credentials", **machine.credentials}
    token = web.post("/oauth2/token", data=form).json()["access_token"]
    assert introspected(web, app, token)["scope"] == "a b"
    change(machine, removed_scope=scopes("a"))
    assert introspected(web, app, token)["scope"] == "b"
    change(machine, grant_types=frozenset({GrantType.REFRESH_TOKEN}))
    assert introspected(web, app, token) == {"active": False}


def test_sessions_of_the_built_in_client_have_what_their_users_have(web: TestClient, app: App) -> None:
    body = web.post("/login", data=ALICE).json()
    first_party = App("first-party", None)
    body = refreshed(web, first_party, body)
    assert body["scope"] == "items:read items:write"
    assert introspected(web, app, body["access_token"])["scope"] == body["scope"]
