"""The store of clients, on SQLite and PostgreSQL."""

from dataclasses import replace

import pytest
from support.stores import NOW

from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.oauth import AuthMethod, GrantType


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_a_stored_client_is_loaded_unchanged(database: Database) -> None:
    store = ClientStore(database)
    client = Client(
        "id",
        "a machine",
        AuthMethod.BASIC,
        frozenset({"a"}),
        NOW,
        ("x", "y"),
        b"digest",
        grant_types=frozenset(GrantType),
    )
    store.add(client)
    assert store.by_id("id") == client
    assert store.by_id("other") is None
    store.set_disabled("id", NOW)
    assert store.all() == ([replace(client, disabled_at=NOW)], [])


def test_the_built_in_client_is_not_stored(database: Database) -> None:
    assert ClientStore(database).by_id("first-party") is FIRST_PARTY
    assert ClientStore(database).all() == ([], [])
