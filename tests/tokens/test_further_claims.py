"""Further claims of access tokens: attributes, roles, a function of the operator, and tokens without `username`."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from support.defaults import ALICE, PASSWORD, START, Build
from support.endpoints import refresh, verified
from support.stores import NOW, family_with_token

from issuer.accounts.registration import register_user
from issuer.accounts.roles import Role
from issuer.accounts.user import User
from issuer.administration.clients import register_client
from issuer.administration.permissions import grant_roles, set_attributes
from issuer.clients.client import FIRST_PARTY
from issuer.oauth import AuthMethod, GrantType, InvalidRequest, ServerError
from issuer.services import Issuer
from issuer.settings.settings import BadSettings, Settings
from issuer.tokens.authorization import Authorization
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.further_claims import ClaimsOfFunction, ClaimsRequest
from issuer.web.app import create_app

Serve = Callable[..., tuple[Issuer, TestClient]]
Function = Callable[[ClaimsRequest], object]


@pytest.fixture
def serve(made: Build, settings: Settings) -> Iterator[Serve]:
    """Serve with further settings, and make alice, who has attributes and a role."""
    clients = []

    def start(**more: Any) -> tuple[Issuer, TestClient]:
        issuer = made(settings.model_copy(update=more))
        clients.append(TestClient(create_app(issuer), raise_server_exceptions=False))
        clients[-1].__enter__()
        accounts = issuer.accounts
        user = register_user(accounts.store, accounts.passwords, "alice", PASSWORD, START)
        accounts.roles.set(Role("support", frozenset({"tickets:read"}), START))
        grant_roles(accounts.store, accounts.roles, user, {"support"})
        set_attributes(accounts.store, user, {"department": "ops", "cost": "1"})
        return issuer, clients[-1]

    yield start
    for each in clients:
        each.__exit__(None, None, None)


@pytest.fixture
def claims_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Function], tuple[str, ...]]:
    """Put a function into a module; return the value of the setting."""

    def put(function: Function) -> tuple[str, ...]:
        module = ModuleType("claims_for_tests")
        module.claims = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "claims_for_tests", module)
        return ("claims_for_tests:claims",)

    return put


def logged_in(web: TestClient) -> dict[str, Any]:
    answer = web.post("/login", data=ALICE)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = verified(web, answer.json()["access_token"])
    return found


def test_tokens_have_the_named_attributes_and_no_others(serve: Serve) -> None:
    _, web = serve(claims=("department", "site"))
    claims = logged_in(web)
    assert claims["department"] == "ops"
    assert not {"site", "cost", "roles"} & claims.keys()
    assert claims["username"] == "alice"


def test_without_settings_tokens_are_as_before(serve: Serve) -> None:
    _, web = serve()
    assert logged_in(web).keys() == {
        *("iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope", "username", "grant_id")
    }


def test_the_scope_of_a_role_is_granted_at_log_in_and_withdrawn_at_refresh(serve: Serve) -> None:
    issuer, web = serve()
    session = web.post("/login", data=ALICE).json()
    assert session["scope"] == "tickets:read"
    issuer.accounts.roles.set(Role("support", frozenset({"tickets:read", "x"}), START))
    again = refresh(web, session["refresh_token"]).json()
    assert again["scope"] == "tickets:read"  # a session never grows
    issuer.accounts.roles.delete("support")
    assert refresh(web, again["refresh_token"]).json()["scope"] == ""


def test_introspection_of_a_refresh_token_tells_the_scope_that_its_user_still_has(issuer: Issuer) -> None:
    family, token = family_with_token(issuer.database)  # of a session with the scope `a`, which its user lost
    roles, ask = issuer.accounts.roles, {"token": token}
    roles.set(Role("support", frozenset({"a"}), NOW))
    assert "scope" not in issuer.tokens.introspection.introspect(FIRST_PARTY, ask, NOW)
    roles.give(family.user_id, "support")
    assert issuer.tokens.introspection.introspect(FIRST_PARTY, ask, NOW)["scope"] == "a"


def test_tokens_without_a_username_are_accepted_everywhere(serve: Serve) -> None:
    _, web = serve(username_claim="off")
    session = web.post("/login", data=ALICE).json()
    assert "username" not in verified(web, session["access_token"])
    me = web.get("/users/me", headers={"Authorization": f"Bearer {session['access_token']}"})
    assert me.json()["username"] == "alice"
    again = refresh(web, session["refresh_token"]).json()
    assert "username" not in verified(web, again["access_token"])


def test_a_function_gets_a_frozen_view_and_its_result_is_in_tokens_of_users_and_machines(
    serve: Serve, claims_of: Callable[[Function], tuple[str, ...]]
) -> None:
    seen = []

    def claims(request: ClaimsRequest) -> object:
        seen.append(request)
        return {"groups": ["a"], "level": 3 if request.user else 1}

    issuer, web = serve(claims=claims_of(claims))
    found = logged_in(web)
    assert (found["groups"], found["level"]) == (["a"], 3)
    user = seen[0].user
    assert user
    assert (user.username, user.roles, dict(user.attributes)) == (
        "alice",
        {"support"},
        {"department": "ops", "cost": "1"},
    )
    assert (seen[0].client.id, seen[0].scope) == ("first-party", {"tickets:read"})
    with pytest.raises(FrozenInstanceError):
        user.id = "another"  # type: ignore[misc]
    with pytest.raises(TypeError):
        user.attributes["department"] = "x"  # type: ignore[index]
    client, secret = register_client(
        issuer.clients.store, "a machine", AuthMethod.BASIC, frozenset(), (), START
    )
    answer = web.post(
        "/oauth2/token", auth=(client.id, secret or ""), data={"grant_type": "client_credentials"}
    )
    assert verified(web, answer.json()["access_token"])["level"] == 1
    assert seen[-1].user is None


def endless() -> object:
    return {"a": endless_list()}


def endless_list() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


WRONG: dict[str, Function] = {
    "an exception": lambda _: 1 / 0,
    "an exit": lambda _: sys.exit(1),
    "an error of the protocol": lambda _: (_ for _ in ()).throw(InvalidRequest("mine")),
    "no mapping": lambda _: ["groups"],
    "None": lambda _: None,
    "a reserved name": lambda _: {"sub": "root"},
    "a registered name": lambda _: {"email": "root@example.com"},
    "a name of another type": lambda _: {1: "x"},
    "a malformed name": lambda _: {"A b": "x"},
    "no JSON": lambda _: {"a": object()},
    "no number": lambda _: {"a": float("nan")},
    "no end": lambda _: endless(),
    "too much": lambda _: {"a": "x" * 2049},
}


@pytest.mark.parametrize("function", WRONG.values(), ids=WRONG)
def test_a_wrong_result_is_a_server_error(function: Function, issuer: Issuer) -> None:
    with pytest.raises(ServerError):
        ClaimsOfFunction(function)(None, FIRST_PARTY, frozenset())


def test_a_failing_function_gives_a_response_in_the_shape_of_the_protocol_and_uses_nothing_up(
    serve: Serve, claims_of: Callable[[Function], tuple[str, ...]]
) -> None:
    fails = False

    def claims(_: ClaimsRequest) -> object:
        return {"a": 1 / (0 if fails else 1)}

    _, web = serve(claims=claims_of(claims))
    session = web.post("/login", data=ALICE).json()
    fails = True
    for answer in (web.post("/login", data=ALICE), refresh(web, session["refresh_token"])):
        assert answer.status_code == 500
        assert answer.json()["error"] == "server_error"
        assert "division" not in answer.text
    fails = False
    assert refresh(web, session["refresh_token"]).status_code == 200


def test_the_result_is_copied(issuer: Issuer) -> None:
    mine = {"groups": ["a"]}
    found = ClaimsOfFunction(lambda _: mine)(None, FIRST_PARTY, frozenset())
    mine["groups"].append("b")
    assert found == {"groups": ["a"]}


@pytest.mark.parametrize(
    "value", ["sub", "email", "a,roles", "Department", "a b", "module:", ":f", "m:f,a", "m:f.g", "m n:f"]
)
def test_values_of_the_setting_that_can_never_work_are_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_CLAIMS", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("source", ["no_such_module:f", "json:no_such_function", "json:__name__"])
def test_a_function_that_cannot_be_loaded_is_reported_at_the_start(
    source: str, made: Build, settings: Settings
) -> None:
    with pytest.raises(BadSettings, match="ISSUER_CLAIMS"):
        made(settings.model_copy(update={"claims": (source,)}))


def test_clients_get_roles_if_they_are_registered_so(serve: Serve) -> None:
    issuer, _ = serve()
    user = issuer.accounts.store.by_username("alice")
    assert user
    with pytest.raises(InvalidRequest):  # a machine has no user
        register_client(
            issuer.clients.store, "x", AuthMethod.BASIC, frozenset(), (), START, has_roles_claim=True
        )
    assert _claims(user, user.roles).members()["roles"] == ["support"]
    assert "roles" not in _claims(user, None).members()
    client, _ = register_client(
        issuer.clients.store,
        "x",
        AuthMethod.BASIC,
        frozenset(),
        (),
        START,
        has_roles_claim=True,
        redirect_uris=["https://app.example/back"],
        grant_types=frozenset({GrantType.AUTHORIZATION_CODE}),
    )
    assert issuer.clients.store.by_id(client.id) == client


def _claims(user: User, roles: frozenset[str] | None) -> AccessTokenClaims:
    authorization = Authorization(user.id, "a", frozenset(), ("x",), roles=roles, further_claims={"sub": "b"})
    issued = AccessTokenClaims.issued(authorization, None, "x", START, timedelta(minutes=1))
    assert issued.members()["sub"] == user.id  # whatever further claims there are
    return issued
