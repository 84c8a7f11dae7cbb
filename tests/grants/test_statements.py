"""How many statements each grant sends to the database, once its client and resource are in memory."""

from collections.abc import Mapping

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.authorizing import CALLBACK, VERIFIER, App, an_app, sign_in
from support.defaults import ALICE, Build, MovableClock
from support.group_commits import run_together
from support.statements import statements

from issuer.clients.resources import Resource, Resources
from issuer.clients.store import MEMORY
from issuer.clock import system_clock
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType, InvalidTarget, OAuthRequest
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.tokens.family_queries import Found
from issuer.web.app import create_app

TOOLS = "https://tools.example"
SQLITE = {GrantType.CLIENT_CREDENTIALS: 0, GrantType.AUTHORIZATION_CODE: 10, GrantType.REFRESH_TOKEN: 4}
POSTGRESQL = {GrantType.CLIENT_CREDENTIALS: 0, GrantType.AUTHORIZATION_CODE: 10, GrantType.REFRESH_TOKEN: 2}


@pytest.fixture
def issuer(made: Build, settings: Settings, url: str, clock: MovableClock) -> Issuer:
    clock.now = system_clock()  # PostgreSQL has a clock of its own
    issuer = made(settings.model_copy(update={"database_url": SecretStr(url)}))
    issuer.clients.resources.add(Resource(TOOLS, clock(), is_open=True))
    issuer.keys.node.refresh()
    return issuer


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer, grant_types=frozenset(SQLITE))


@pytest.fixture
def codes(issuer: Issuer, made: Build, app: App) -> list[str]:
    """Two codes for the audience of the client, and two for the open resource."""
    with TestClient(create_app(made(issuer.settings))) as web:
        web.post("/users", json=ALICE)
        user = issuer.accounts.store.by_username("alice")
        assert user
        sign_in(web, issuer, user.id)
        return [app.code(web, resource=resource) for resource in (None, None, TOOLS, TOOLS)]


def granted(
    issuer: Issuer, app: App, grant: GrantType, more: Mapping[str, str], *resources: str
) -> UnsignedTokenResponse:
    form = {"grant_type": grant.value, **app.credentials, **more}
    return issuer.tokens.pipeline.grant(OAuthRequest(form, resources=resources), Origin(), issuer.clock())


def redeemed(issuer: Issuer, app: App, code: str) -> UnsignedTokenResponse:
    form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return granted(issuer, app, GrantType.AUTHORIZATION_CODE, form)


def refreshed(issuer: Issuer, app: App, token: str) -> str:
    form = {"grant_type": "refresh_token", "refresh_token": token, **app.credentials}

    def work(found: Found | None) -> UnsignedTokenResponse:
        assert found
        return issuer.tokens.pipeline.decide(OAuthRequest(form), Origin(), issuer.clock(), found)

    (following,) = run_together(issuer.tokens.group_commit, [(token, work)])
    assert isinstance(following, str), following
    return following


def test_each_grant_costs_the_same_few_statements_for_an_open_resource_as_for_any_other(
    issuer: Issuer, app: App, codes: list[str]
) -> None:
    expected = SQLITE if issuer.database.is_sqlite else POSTGRESQL
    for first, second, resources in ((*codes[:2], ()), (*codes[2:], (TOOLS,))):
        token = redeemed(issuer, app, first).refresh_token or ""
        granted(issuer, app, GrantType.CLIENT_CREDENTIALS, {}, *resources)
        with statements(issuer.database) as seen:
            redeemed(issuer, app, second)
        assert len(seen) == expected[GrantType.AUTHORIZATION_CODE], seen
        for _ in range(2):
            with statements(issuer.database) as seen:
                token = refreshed(issuer, app, token)
            assert len(seen) == expected[GrantType.REFRESH_TOKEN], seen
        with statements(issuer.database) as seen:
            granted(issuer, app, GrantType.CLIENT_CREDENTIALS, {}, *resources)
        assert len(seen) == expected[GrantType.CLIENT_CREDENTIALS], seen


def test_a_resource_that_another_process_removes_is_refused_within_the_second(
    issuer: Issuer, app: App, clock: MovableClock
) -> None:
    def ask() -> None:
        granted(issuer, app, GrantType.CLIENT_CREDENTIALS, {}, TOOLS)

    ask()
    Resources(issuer.database).remove(TOOLS)
    clock.advance(seconds=MEMORY.total_seconds())
    with pytest.raises(InvalidTarget):
        ask()
    Resources(issuer.database).add(Resource(TOOLS, clock(), is_open=True))
    clock.advance(seconds=MEMORY.total_seconds())
    ask()
    issuer.clients.resources.remove(TOOLS)
    with pytest.raises(InvalidTarget):  # at once: this process did it
        ask()
