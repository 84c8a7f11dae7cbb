"""Sessions of a client that operators count and end: those that hold more than it may have."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from support.authorization import APP, a_request
from support.stores import NOW, user

from issuer.accounts.store import AccountStore
from issuer.administration.client_changes import ClientChanges, change_client
from issuer.administration.client_sessions import count_exceeding, count_sessions, end_exceeding
from issuer.authorize.consent_store import Consents
from issuer.clients.client import Client
from issuer.clients.resources import Resource, Resources
from issuer.clients.store import MEMORY, ClientStore
from issuer.database.database import Database
from issuer.oauth import GrantType
from issuer.sessions.session import SignIn
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, signed_in, stored
from issuer.tokens.refresh_text import new_refresh_token

DEFAULT, ISSUER, MONTH = "https://api.example", "https://issuer.example", timedelta(days=30)
Start = Callable[..., str]


@pytest.fixture
def families(each_database: Database) -> FamilyStore:
    ClientStore(each_database).add(APP)
    return FamilyStore(each_database)


@pytest.fixture
def entitlements(each_database: Database) -> Entitlements:
    return Entitlements(Resources(each_database), (DEFAULT,), ISSUER)


@pytest.fixture
def start(each_database: Database, families: FamilyStore) -> Start:
    """Start a session of a new user, who consents, and return its id."""

    def begin(
        scope: str, audience: tuple[str, ...] = (DEFAULT, ISSUER), *, consents: bool = True, **changes: Any
    ) -> str:
        number, granted = str(uuid.uuid4()), frozenset(scope.split())
        owner = user(f"user-{number}")
        AccountStore(each_database).add(owner)
        if consents:
            assert Consents(each_database, families).give(owner.id, a_request(), granted, NOW, NOW)
        family = Family(number, owner.id, APP.id, granted, audience, NOW, NOW + MONTH)
        family = signed_in(replace(family, **changes), SignIn(None, "a sid", NOW, "1", ("pwd",), None, ()))
        assert families.start(family, stored(new_refresh_token(number), family, NOW, MONTH))
        return number

    return begin


def ended(
    database: Database, client: Client, entitlements: Entitlements, ids: list[str], before: Client = APP
) -> list[bool]:
    """End the sessions that hold more; return for each id whether that one was ended, and no other was counted."""
    expected = count_exceeding(database, client, before, entitlements, NOW)
    assert end_exceeding(database, client, before, entitlements, NOW) == expected
    assert count_exceeding(database, client, before, entitlements, NOW) == 0
    active = [FamilyStore(database).is_active(each, NOW) for each in ids]
    assert active.count(False) == expected
    return [not each for each in active]


def test_sessions_with_more_scope_or_another_audience_are_ended(
    each_database: Database, start: Start, entitlements: Entitlements
) -> None:
    Resources(each_database).add(Resource("https://open.example", NOW, is_open=True))
    ids = [
        start("openid offline_access items:read"),
        start("openid items:read items:write"),
        start("items:read", (f"{DEFAULT}/",)),
        start("items:read", (DEFAULT, "https://other.example")),
        start("items:read", ("https://open.example",)),
        start("openid", (ISSUER,)),
    ]
    client = replace(APP, scope=frozenset({"items:read"}))
    assert ended(each_database, client, entitlements, ids) == [False, True, False, True, False, False]


def test_sessions_of_users_who_never_consented_are_ended_when_the_client_is_trusted_no_longer(
    each_database: Database, start: Start, entitlements: Entitlements
) -> None:
    ids = [start("openid"), start("openid", consents=False)]
    trusted = replace(APP, is_trusted=True)
    assert ended(each_database, trusted, entitlements, ids, trusted) == [False, False]
    assert ended(each_database, APP, entitlements, ids, trusted) == [False, True]


@pytest.mark.parametrize("lost", [GrantType.REFRESH_TOKEN, GrantType.AUTHORIZATION_CODE])
def test_all_sessions_are_ended_when_the_grant_that_they_need_was_taken_away(
    each_database: Database, start: Start, entitlements: Entitlements, lost: GrantType
) -> None:
    ids = [start("openid"), start("openid items:read")]
    client = replace(APP, grant_types=APP.grant_types - {lost})
    assert ended(each_database, client, entitlements, ids) == [True, True]


def test_sessions_that_have_refresh_tokens_are_ended_also_after_a_change_before_took_the_grant_away(
    each_database: Database, start: Start, entitlements: Entitlements
) -> None:
    """Sessions that began since have none: the client had lost the grant."""
    without = frozenset({GrantType.AUTHORIZATION_CODE})
    ids = [start("openid"), start("openid", created_at=NOW + MEMORY * 2)]
    change_client(each_database, APP.id, ClientChanges(grant_types=without), NOW)
    before, after = change_client(each_database, APP.id, ClientChanges(), NOW + MEMORY * 2)
    assert before == after
    assert ended(each_database, after, entitlements, ids, before) == [True, False]
    _, given_back = change_client(each_database, APP.id, ClientChanges(grant_types=APP.grant_types), NOW)
    assert count_exceeding(each_database, given_back, given_back, entitlements, NOW) == 0


def test_sessions_of_others_and_ended_ones_are_left_alone(
    each_database: Database, start: Start, entitlements: Entitlements, families: FamilyStore
) -> None:
    other, over = start("items:write", client_id="another client"), start("items:write")
    assert families.end(over, NOW)
    client = replace(APP, scope=frozenset())
    assert end_exceeding(each_database, client, APP, entitlements, NOW) == 0
    assert families.is_active(other, NOW)


def test_a_session_whose_row_is_damaged_is_ended(
    each_database: Database, start: Start, entitlements: Entitlements
) -> None:
    ids = [start("openid"), start("openid"), start("openid")]
    with each_database.write() as connection:
        for column, family in (("scope", ids[0]), ("audience", ids[1])):
            change = text(f"UPDATE families SET {column} = :value WHERE id = :id")  # noqa: S608
            connection.execute(change, {"value": '"', "id": family})
    assert count_exceeding(each_database, APP, APP, entitlements, NOW) == 2
    assert end_exceeding(each_database, APP, APP, entitlements, NOW) == 2


def test_sessions_are_counted_that_have_not_ended_and_can_be_refreshed(
    each_database: Database, start: Start, families: FamilyStore
) -> None:
    first, _ = start("openid"), start("openid")
    assert count_sessions(each_database, APP.id, NOW) == 2
    assert families.end(first, NOW)
    assert count_sessions(each_database, APP.id, NOW) == 1
    assert count_sessions(each_database, APP.id, NOW + MONTH) == 0
    assert count_sessions(each_database, "another client", NOW) == 0
