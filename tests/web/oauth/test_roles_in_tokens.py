"""Roles at the endpoints: their scopes at code redemption and refresh, and the claim `roles`."""

import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app, sign_in
from support.defaults import ALICE
from support.endpoints import refresh, verified

from issuer.accounts.roles import Role
from issuer.services import Issuer

SCOPE = "items:read openid tickets:read"
WITH_ROLES = {"has_roles_claim": True}


@pytest.fixture(autouse=True)
def _support(web: TestClient, issuer: Issuer, alice: str) -> None:
    """Give alice, who is signed in, the role `support`."""
    issuer.accounts.roles.set(Role("support", frozenset({"tickets:read"}), issuer.clock()))
    issuer.accounts.roles.give(alice, "support")
    sign_in(web, issuer, alice)


def test_a_client_gets_the_scope_of_a_role_until_it_is_withdrawn(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer, scope="items:read tickets:read")
    code = app.code(web, scope=SCOPE)
    first = app.redeems(web, code).json()
    assert first["scope"] == SCOPE
    assert "roles" not in verified(web, first["access_token"])
    late = app.code(web, scope=SCOPE)
    issuer.accounts.roles.take(alice, frozenset({"support"}))
    assert app.redeems(web, late).json()["scope"] == "items:read openid"
    again = web.post(
        "/oauth2/token",
        data={
            "grant_type": "refresh_token",
            "refresh_token": first["refresh_token"],
            **app.credentials,
        },
    )
    assert again.json()["scope"] == "items:read openid"


@pytest.mark.parametrize("scope", [SCOPE, "openid"])
def test_a_client_that_is_registered_so_gets_the_names_of_all_roles(
    web: TestClient, issuer: Issuer, alice: str, scope: str
) -> None:
    app = an_app(issuer, scope="items:read tickets:read", **WITH_ROLES)
    issuer.accounts.roles.set(Role("admin", frozenset(), issuer.clock()))
    issuer.accounts.roles.give(alice, "admin")
    token = app.redeems(web, app.code(web, scope=scope)).json()
    assert verified(web, token["access_token"])["roles"] == ["admin", "support"]
    issuer.accounts.roles.delete("admin")
    issuer.accounts.roles.delete("support")
    renewed = web.post(
        "/oauth2/token",
        data={
            "grant_type": "refresh_token",
            "refresh_token": token["refresh_token"],
            **app.credentials,
        },
    )
    assert verified(web, renewed.json()["access_token"])["roles"] == []


def test_introspection_tells_the_roles_of_a_token(
    web: TestClient, issuer: Issuer, machine: tuple[str, str]
) -> None:
    app = an_app(issuer, **WITH_ROLES)
    token = app.redeems(web, app.code(web)).json()["access_token"]
    answer = web.post("/oauth2/introspect", auth=machine, data={"token": token})
    assert answer.json()["roles"] == ["support"]
    assert answer.json()["active"]


def test_a_first_party_session_has_the_scope_but_not_the_claim(web: TestClient) -> None:
    session = web.post("/login", data=ALICE).json()
    assert session["scope"] == "items:read items:write tickets:read"
    renewed = refresh(web, session["refresh_token"]).json()
    assert "roles" not in verified(web, renewed["access_token"])
