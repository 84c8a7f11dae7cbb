"""What a client may still have of what is held, as operators have it registered now."""

from dataclasses import replace

import pytest
from support.authorization import APP
from support.stores import NOW

from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.resources import Resource, Resources
from issuer.database.database import Database
from issuer.oauth import GrantType
from issuer.tokens.entitlements import Entitlements, may_keep, scope_limit
from issuer.tokens.refresh import Family

DEFAULT, ISSUER, OWN, TOOLS = (f"https://{name}.example" for name in ("api", "issuer", "own", "tools"))


@pytest.fixture
def entitlements(database: Database) -> Entitlements:
    resources = Resources(database)
    resources.add(Resource(TOOLS, NOW, is_open=True))
    resources.add(Resource("https://closed.example", NOW))
    return Entitlements(resources, (DEFAULT,), ISSUER)


@pytest.mark.parametrize(
    ("own", "held", "kept"),
    [
        ((), (DEFAULT, ISSUER), (DEFAULT, ISSUER)),
        ((), (OWN, ISSUER), ()),
        ((OWN,), (OWN, DEFAULT, ISSUER), (OWN, ISSUER)),
        ((f"{OWN}/",), (OWN,), (f"{OWN}/",)),
        ((OWN,), (ISSUER,), (ISSUER,)),
        ((OWN,), (f"{TOOLS}/",), (TOOLS,)),
        ((OWN,), (OWN, "https://closed.example"), (OWN,)),
        ((OWN,), (), ()),
    ],
)
def test_audiences_are_kept_that_are_the_clients_own_the_issuer_or_open(
    entitlements: Entitlements, own: tuple[str, ...], held: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    assert entitlements.audience(replace(APP, audiences=own), held) == kept


def test_scopes_are_kept_that_are_the_clients_or_that_users_grant_alone(entitlements: Entitlements) -> None:
    held = frozenset({"items:read", "tickets", "openid", "email", "offline_access"})
    assert entitlements.scope(APP, held) == held - {"tickets"}
    without_refresh = replace(APP, grant_types=frozenset({GrantType.AUTHORIZATION_CODE}))
    assert entitlements.scope(without_refresh, held) == held - {"tickets", "offline_access"}
    assert scope_limit(without_refresh) == {*APP.scope, "openid", "profile", "email"}


def test_the_built_in_client_keeps_everything(entitlements: Entitlements) -> None:
    assert entitlements.scope(FIRST_PARTY, frozenset({"anything"})) == {"anything"}
    assert entitlements.audience(FIRST_PARTY, ("https://any.example",)) == ("https://any.example",)


@pytest.mark.parametrize(
    ("scope", "audience", "more"),
    [
        ("items:read openid", (DEFAULT, ISSUER), False),
        ("items:read", (f"{DEFAULT}/",), False),
        ("tickets", (DEFAULT,), True),
        ("items:read", (DEFAULT, OWN), True),
        ("items:read", (OWN, ISSUER), True),
    ],
)
def test_another_spelling_of_an_audience_is_not_more(
    entitlements: Entitlements, scope: str, audience: tuple[str, ...], more: bool
) -> None:
    assert entitlements.holds_more(APP, frozenset(scope.split()), audience) is more


def test_a_session_from_a_sign_in_needs_a_client_that_may_sign_users_in() -> None:
    family = Family("id", "user", APP.id, frozenset(), (DEFAULT,), NOW, NOW)
    signed_in = replace(family, sid="sid", auth_time=NOW, acr="1", amr=("pwd",))
    machine: Client = replace(APP, grant_types=frozenset({GrantType.REFRESH_TOKEN}))
    assert [may_keep(APP, signed_in), may_keep(machine, signed_in), may_keep(machine, family)] == [
        True,
        False,
        True,
    ]
