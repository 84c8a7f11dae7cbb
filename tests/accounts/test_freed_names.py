"""The name of a deleted account is reserved for a while, so that nobody can use it to impersonate its user."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from support.stores import NOW, user

from issuer.accounts.freed_names import NAME_RESERVED, SECRET, FreedNames, UsernameReserved, freed_names
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.account_deletion import delete_account
from issuer.administration.user_import import ImportRow, find_conflicts
from issuer.database.database import Database
from issuer.database.secrets import SecretStore
from issuer.maintenance.pruning import prune
from issuer.oauth import UsernameTaken


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def deleted(database: Database) -> User:
    alice = user("Straße")
    AccountStore(database).add(alice)
    assert delete_account(database, alice.id, None, NOW, "an operator")
    return alice


def again(after: timedelta, name: str = "STRASSE") -> User:
    return replace(user(name), created_at=NOW + after)


@pytest.mark.usefixtures("deleted")
def test_a_freed_name_cannot_be_taken_before_its_time_in_any_spelling(database: Database) -> None:
    accounts = AccountStore(database)
    with pytest.raises(UsernameReserved) as refused:
        accounts.add(again(NAME_RESERVED - timedelta(seconds=1)))
    assert (refused.value.code, refused.value.description) == (UsernameTaken.code, UsernameTaken.description)
    assert "2026-01-31" in refused.value.reason
    assert accounts.by_username("strasse") is None
    accounts.add(again(NAME_RESERVED))
    assert accounts.by_username("strasse")


@pytest.mark.usefixtures("deleted")
def test_an_import_names_the_line_with_a_reserved_name(database: Database) -> None:
    rows = [ImportRow(1, again(timedelta(0), "bob")), ImportRow(2, again(timedelta(0)))]
    found = list(find_conflicts(rows, AccountStore(database)))
    assert [(each.line, each.reason) for each in found] == [(2, "an account of this name was deleted lately")]
    with pytest.raises(UsernameReserved):
        AccountStore(database).add_all([row.user for row in rows])
    assert AccountStore(database).by_username("bob") is None


@pytest.mark.usefixtures("deleted")
def test_only_a_keyed_digest_of_the_name_is_stored_and_removed_afterwards(database: Database) -> None:
    with database.read() as connection:
        row = connection.execute(select(freed_names)).one()
    assert len(row.name) == 32
    other = FreedNames(database)
    other._secret = b"of another installation"  # type: ignore[misc]
    assert other._digest("straße") != row.name
    prune(database, NOW + NAME_RESERVED)
    assert FreedNames(database).reserved(["straße"], NOW)
    prune(database, NOW + NAME_RESERVED + timedelta(days=1))
    assert not FreedNames(database).reserved(["straße"], NOW)


def test_looking_for_reserved_names_writes_nothing(database: Database) -> None:
    assert FreedNames(database).reserved(["alice"], NOW) == {}
    AccountStore(database).add(user("alice"))
    assert not SecretStore(database).exists(SECRET)


def test_a_registration_during_the_deletion_does_not_get_the_name(database: Database) -> None:
    alice = user("alice")
    AccountStore(database).add(alice)

    def register() -> bool:
        try:
            AccountStore(database).add(user("alice"))
        except UsernameTaken:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        tries = [pool.submit(register) for _ in range(3)]
        deletion = pool.submit(delete_account, database, alice.id, None, NOW)
        tries += [pool.submit(register) for _ in range(3)]
        assert deletion.result()
        assert not any(each.result() for each in tries)
    assert AccountStore(database).by_username("alice") is None
