"""Roles as stored, on SQLite and PostgreSQL: users have their scopes at once, and lose them with the role."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from support.stores import NOW, family_with_token, user

from issuer.accounts.roles import NoSuchRole, Role, RoleStore, require_role_name, require_role_scope
from issuer.accounts.store import AccountStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.digests import digest
from issuer.oauth import InvalidRequest
from issuer.tokens.family_store import FamilyStore

SUPPORT = Role("support", frozenset({"tickets:read", "items:read"}), NOW)
EMPTY = Role("empty", frozenset(), NOW)


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def roles(database: Database) -> RoleStore:
    store = RoleStore(database)
    assert store.set(SUPPORT)
    assert store.set(EMPTY)
    return store


def test_a_user_has_the_own_scopes_and_those_of_the_roles(database: Database, roles: RoleStore) -> None:
    accounts, alice = AccountStore(database), user()
    accounts.add(alice)
    assert roles.give(alice.id, "support")
    assert roles.give(alice.id, "empty")
    assert not roles.give(alice.id, "empty")
    stored = accounts.by_id(alice.id)
    assert stored
    assert stored == accounts.by_username("alice")
    assert (stored.scope, stored.roles) == (alice.scope, {"support", "empty"})
    assert stored.effective_scope == {"b", "items:read", "tickets:read"}
    assert roles.count_users("support") == 1
    assert roles.take(alice.id, frozenset({"support", "unknown"})) == 1
    assert accounts.by_id(alice.id).effective_scope == alice.scope  # type: ignore[union-attr]


def test_a_changed_role_is_read_with_the_next_refresh(database: Database, roles: RoleStore) -> None:
    family, token = family_with_token(database)
    roles.give(family.user_id, "support")
    changed = Role("support", frozenset({"x"}), NOW)
    assert not roles.set(changed)
    found = FamilyStore(database).find(digest(token))
    assert found
    assert found.user.role_scope == {"x"}
    assert found.user.roles == {"support"}
    assert roles.all() == ([EMPTY, changed], [])


def test_a_deleted_role_is_taken_from_all(database: Database, roles: RoleStore) -> None:
    accounts, alice = AccountStore(database), user()
    accounts.add(alice)
    roles.give(alice.id, "support")
    assert roles.delete("support")
    assert not roles.delete("support")
    assert accounts.by_id(alice.id) == alice
    with pytest.raises(NoSuchRole):
        roles.give(alice.id, "support")


def test_a_role_that_is_given_while_it_is_deleted_is_given_to_nobody(
    database: Database, roles: RoleStore
) -> None:
    accounts, people = AccountStore(database), [user(f"user-{number}") for number in range(6)]
    accounts.add_all(people)

    def give(user_id: str) -> None:
        try:
            roles.give(user_id, "support")
        except NoSuchRole:
            return

    with ThreadPoolExecutor(7) as pool:
        given = [pool.submit(give, each.id) for each in people[:3]]
        deleted = pool.submit(roles.delete, "support")
        given += [pool.submit(give, each.id) for each in people[3:]]
        assert deleted.result()
        for each in given:
            each.result()
    assert [user.roles for user in accounts.all()[0]] == [frozenset()] * 6


def test_a_damaged_scope_of_a_role_is_reported(database: Database, roles: RoleStore) -> None:
    accounts, alice = AccountStore(database), user()
    accounts.add(alice)
    roles.give(alice.id, "support")
    with database.write() as connection:
        connection.execute(text("UPDATE roles SET scope = 'é' WHERE name = 'support'"))
    with pytest.raises(DatabaseDamaged):
        accounts.by_id(alice.id)
    found, damaged = roles.all()
    assert found == [EMPTY]
    assert len(damaged) == 1


@pytest.mark.parametrize("name", ["", "two words", "-x", "é", "x" * 65, "a\n", "a/b"])
def test_names_of_roles_are_short_words(name: str) -> None:
    with pytest.raises(InvalidRequest):
        require_role_name(name)


def test_the_scope_of_a_role_is_bounded() -> None:
    assert require_role_scope(frozenset({"x" * 500}))
    with pytest.raises(InvalidRequest):
        require_role_scope(frozenset({"x" * 501}))
