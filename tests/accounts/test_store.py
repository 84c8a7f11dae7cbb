"""The store of accounts, on SQLite and PostgreSQL."""

from dataclasses import replace

import pytest
from support.stores import NOW, user

from issuer.accounts.store import AccountStore
from issuer.database.database import Database
from issuer.oauth import UsernameTaken
from issuer.tokens.family_store import FamilyStore


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_an_account_is_found_by_id_and_by_every_spelling_of_its_name(database: Database) -> None:
    store = AccountStore(database)
    alice = user("Älice")
    store.add(alice)
    assert store.by_id(alice.id) == alice
    assert store.by_username("äLICE") == alice
    assert store.by_username("a\u0308lice") == alice
    assert store.by_username("bob") is None
    assert store.by_id("x") is None


def test_a_name_with_the_same_canonical_form_is_taken(database: Database) -> None:
    store = AccountStore(database)
    store.add(user("Alice"))
    for same in ("alice", "ALICE", "\uff41\uff4c\uff49\uff43\uff45"):
        with pytest.raises(UsernameTaken):
            store.add(user(same))


def test_an_account_can_be_changed(database: Database) -> None:
    store = AccountStore(database)
    alice = user()
    store.add(alice)
    FamilyStore(database).set_password_hash(alice.id, "another", NOW)
    store.set_scope(alice.id, frozenset())
    FamilyStore(database).disable(alice.id, NOW)
    changed = replace(alice, password_hash="another", scope=frozenset(), disabled_at=NOW)
    assert store.all() == ([changed], [])
    store.enable(alice.id)
    assert store.by_id(alice.id) == replace(changed, disabled_at=None)
