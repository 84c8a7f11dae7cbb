"""Tokens for registered resources, RFC 8707: at the token endpoint, and through the authorization endpoint."""

from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import App, an_app, answer, sign_in
from support.endpoints import ISSUER, SERVICE

from issuer.clients.resources import Resource
from issuer.services import Issuer

TOOLS, CLOSED = "https://tools.example/mcp", "https://closed.example"


@pytest.fixture(autouse=True)
def _registered(issuer: Issuer) -> None:
    store, now = issuer.clients.resources, issuer.clock()
    store.add(Resource(TOOLS, now, frozenset({"items:read"}), is_open=True))
    store.add(Resource(CLOSED, now))


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer, scope="items:read items:write")


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_machine_gets_a_token_for_an_open_resource_as_it_is_registered(
    web: TestClient, machine: tuple[str, str]
) -> None:
    grant = {"grant_type": "client_credentials", "resource": f"{TOOLS}/"}
    token = claims(web.post("/oauth2/token", auth=machine, data=grant).json()["access_token"])
    assert (token["aud"], token["scope"]) == ([TOOLS], "items:read")
    plain = web.post("/oauth2/token", auth=machine, data={"grant_type": "client_credentials"}).json()
    assert claims(plain["access_token"])["aud"] == [SERVICE]


def test_a_resource_that_is_not_open_is_for_clients_with_that_audience(
    web: TestClient, machine: tuple[str, str]
) -> None:
    grant = {"grant_type": "client_credentials", "resource": CLOSED}
    refused = web.post("/oauth2/token", auth=machine, data=grant)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


def test_scopes_that_a_resource_does_not_know_are_left_out(
    web: TestClient, issuer: Issuer, alice: str, app: App
) -> None:
    sign_in(web, issuer, alice)
    code = app.code(web, resource=f"{TOOLS}/", scope="openid items:read items:write offline_access")
    body = app.redeems(web, code).json()
    token = claims(body["access_token"])
    assert (token["aud"], token["sub"]) == ([TOOLS], alice)
    assert body["scope"] == token["scope"] == "items:read offline_access openid"
    refresh = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
    again = web.post("/oauth2/token", data={**refresh, "resource": TOOLS}).json()
    assert claims(again["access_token"])["aud"] == [TOOLS]
    other = {**refresh, "refresh_token": again["refresh_token"], "resource": SERVICE}
    assert web.post("/oauth2/token", data=other).json()["error"] == "invalid_target"


def test_without_a_resource_the_audience_is_that_of_the_client(
    web: TestClient, issuer: Issuer, alice: str, app: App
) -> None:
    sign_in(web, issuer, alice)
    body = app.redeems(web, app.code(web, scope="items:read items:write")).json()
    token = claims(body["access_token"])
    assert (token["aud"], token["scope"], token["sub"]) == (
        [SERVICE, ISSUER],
        "items:read items:write",
        alice,
    )


def test_a_code_for_one_resource_gives_no_token_for_an_open_one(
    web: TestClient, issuer: Issuer, alice: str, app: App
) -> None:
    sign_in(web, issuer, alice)
    code = app.code(web, resource=SERVICE)
    refused = app.redeems(web, code, resource=TOOLS)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"resource": CLOSED}, "invalid_target"),
        ({"resource": "https://unknown.example"}, "invalid_target"),
        ({"resource": TOOLS, "scope": "items:write"}, "invalid_scope"),
    ],
)
def test_what_a_resource_does_not_allow_is_told_to_the_application(
    web: TestClient, issuer: Issuer, alice: str, app: App, changes: dict[str, str], error: str
) -> None:
    sign_in(web, issuer, alice)
    assert answer(app.asks(web, **changes))["error"] == error


def test_a_session_keeps_what_one_resource_has_not_and_another_has(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    """RFC 8707 section 2.2: one token after the other, each for one resource."""
    reads, writes = "https://reads.example", "https://writes.example"
    for uri, scope in ((reads, "items:read"), (writes, "items:write")):
        issuer.clients.resources.add(Resource(uri, issuer.clock(), frozenset({scope})))
    app = an_app(issuer, scope="items:read items:write", audiences=(reads, writes))
    sign_in(web, issuer, alice)
    body = app.redeems(web, app.code(web, scope="items:read items:write"), resource=reads).json()
    assert (claims(body["access_token"])["aud"], body["scope"]) == ([reads], "items:read")
    refresh = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
    again = web.post("/oauth2/token", data={**refresh, "resource": writes}).json()
    assert (claims(again["access_token"])["aud"], again["scope"]) == ([writes], "items:write")
    refused = {**refresh, "refresh_token": again["refresh_token"], "resource": writes, "scope": "items:read"}
    assert web.post("/oauth2/token", data=refused).json()["error"] == "invalid_scope"


def test_an_application_without_scopes_may_name_a_resource(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer, scope="")
    sign_in(web, issuer, alice)
    assert app.code(web, resource=SERVICE, scope=None)
