"""Consents as stored, on SQLite and PostgreSQL."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from support.authorization import APP, SCOPE, a_request, app
from support.stores import MONTH, NOW, family_with_token, found, user

from issuer.accounts.store import AccountStore
from issuer.authorize.code import code_for
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent import ConsentReason
from issuer.authorize.consent_store import Consents
from issuer.authorize.request import Prompt
from issuer.database.database import Database
from issuer.digests import digest
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import stored
from issuer.tokens.refresh_text import new_refresh_token

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def consents(database: Database) -> Consents:
    return Consents(database, FamilyStore(database))


@pytest.fixture
def owner(database: Database) -> str:
    account = user("owner")
    AccountStore(database).add(account)
    return account.id


def test_consent_is_remembered_for_user_client_and_resource(
    database: Database, consents: Consents, owner: str
) -> None:
    other = user("other")
    AccountStore(database).add(other)
    resources = ("https://api.example", "https://mail.example")
    request = a_request(resources=resources)
    assert consents.covers(owner, request, SCOPE, NOW, LATER).reason is ConsentReason.FIRST
    assert consents.give(owner, request, SCOPE, NOW, NOW)
    assert not consents.covers(owner, request, SCOPE, LATER, LATER).needed
    assert not consents.covers(owner, a_request(resources=resources[:1]), SCOPE, LATER, LATER).needed
    for asked in (
        consents.covers(owner, a_request(), SCOPE, LATER, LATER),
        consents.covers(owner, a_request(app(id="another")), SCOPE, LATER, LATER),
        consents.covers(other.id, request, SCOPE, LATER, LATER),
    ):
        assert asked.reason is ConsentReason.FIRST
    listed, damaged = consents.of_user(owner)
    assert [(each.client_id, each.resource, each.scope) for each in listed] == [
        (APP.id, resource, SCOPE) for resource in resources
    ]
    assert not damaged


def test_consent_that_is_given_again_adds_scope_and_renews_the_instant(
    consents: Consents, owner: str
) -> None:
    consents.give(owner, a_request(), SCOPE, NOW, NOW)
    consents.give(owner, a_request(), frozenset({"email"}), LATER, LATER)
    ((consent,), _) = consents.of_user(owner)
    assert (consent.scope, consent.given_at) == (SCOPE | {"email"}, LATER)


def test_consent_counts_for_a_request_that_began_on_a_node_whose_clock_is_ahead(
    consents: Consents, owner: str
) -> None:
    request = a_request(prompt=Prompt.CONSENT)
    consents.give(owner, request, SCOPE, started=LATER, now=NOW)
    assert not consents.covers(owner, request, SCOPE, LATER, LATER).needed


def test_concurrent_consents_of_one_user_are_all_kept(consents: Consents, owner: str) -> None:
    scopes = [frozenset({f"items:{number}"}) for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        given = list(pool.map(lambda scope: consents.give(owner, a_request(), scope, NOW, NOW), scopes))
    assert all(given)
    assert not consents.covers(owner, a_request(), frozenset().union(*scopes), LATER, LATER).needed


def test_withdrawing_ends_the_sessions_of_that_client_and_user_only(
    database: Database, consents: Consents
) -> None:
    families = FamilyStore(database)
    mine, _ = family_with_token(database)
    theirs, _ = family_with_token(database)
    tokens = []
    for family in (mine, theirs):
        of_app = replace(family, id=str(uuid.uuid4()), client_id=APP.id)
        tokens.append(new_refresh_token(of_app.id))
        assert families.start(of_app, stored(tokens[-1], of_app, NOW, MONTH))
        consents.give(family.user_id, a_request(), SCOPE, NOW, NOW)
    consents.give(mine.user_id, a_request(app(id="another")), SCOPE, NOW, NOW)
    consents.withdraw(mine.user_id, APP.id, LATER)
    assert [found(database, token)[1].ended_at for token in tokens] == [LATER, None]
    assert families.is_active(mine.id, LATER)
    assert consents.covers(mine.user_id, a_request(), SCOPE, LATER, LATER).reason is ConsentReason.FIRST
    assert not consents.covers(mine.user_id, a_request(app(id="another")), SCOPE, LATER, LATER).needed
    assert not consents.covers(theirs.user_id, a_request(), SCOPE, LATER, LATER).needed


def test_withdrawing_voids_codes_that_the_client_has_not_redeemed(
    database: Database, consents: Consents, owner: str
) -> None:
    sessions = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    started = sessions.start(owner, None, "1", ("pwd",), Origin(), NOW)
    assert started
    codes = CodeStore(database)
    for client in (APP, app(id="another")):
        code = code_for(a_request(client), started[0], SCOPE, "a sid", digest(client.id), NOW)
        assert codes.add(code, None, NOW)
    consents.withdraw(owner, APP.id, LATER)
    assert codes.find(APP.id) is None
    assert codes.find("another") is not None


def test_a_disabled_or_unknown_account_gives_no_consent(
    database: Database, consents: Consents, owner: str
) -> None:
    FamilyStore(database).disable(owner, NOW)
    assert not consents.give(owner, a_request(), SCOPE, NOW, NOW)
    assert not consents.give("nobody", a_request(), SCOPE, NOW, NOW)
    assert consents.of_user(owner) == ([], [])


def test_a_damaged_consent_counts_as_none_and_is_replaced(
    database: Database, consents: Consents, owner: str
) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL refuses values of other types")
    consents.give(owner, a_request(), SCOPE, NOW, NOW)
    with database.write() as connection:
        connection.execute(text("UPDATE consents SET given_at = 'no instant'"))
    assert consents.covers(owner, a_request(), SCOPE, LATER, LATER).reason is ConsentReason.FIRST
    assert [str(error) for error in consents.of_user(owner)[1]]
    consents.give(owner, a_request(), SCOPE, LATER, LATER)
    assert not consents.covers(owner, a_request(), SCOPE, LATER, LATER).needed
