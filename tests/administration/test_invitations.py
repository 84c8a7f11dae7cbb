"""Invitations as stored, on both databases: accounts that nobody can sign in to before a password is chosen."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.stores import NOW

from issuer.accounts.passwords import Passwords, WrongPassword
from issuer.accounts.profile import Profile
from issuer.accounts.registration import register_user
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.invitations import Invitations
from issuer.database.database import Database
from issuer.errors import Refused
from issuer.oauth import InvalidRequest, UsernameTaken
from issuer.tokens.family_store import FamilyStore

PASSWORD = "violet otters juggle pancakes"
PROFILE = Profile("Bob", "bob@example.com")
SCOPE = frozenset({"items:read"})


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def accounts(database: Database) -> AccountStore:
    return AccountStore(database)


@pytest.fixture
def invitations(accounts: AccountStore) -> Invitations:
    return Invitations(accounts, Passwords())


def stored(accounts: AccountStore, user: User) -> User:
    found = accounts.by_id(user.id)
    assert found
    return found


def test_an_invited_account_has_a_password_that_nobody_knows(
    invitations: Invitations, accounts: AccountStore
) -> None:
    user = invitations.invite("bob", NOW, SCOPE, PROFILE)
    assert stored(accounts, user) == user
    assert (user.scope, user.name, user.email, user.invited_at) == (SCOPE, "Bob", "bob@example.com", NOW)
    for guess in ("", "bob", user.password_hash):
        with pytest.raises(WrongPassword):
            Passwords().verify(guess, user.password_hash)


def test_another_invitation_replaces_the_hash_and_nothing_else(
    invitations: Invitations, accounts: AccountStore
) -> None:
    user = invitations.invite("bob", NOW, SCOPE, PROFILE)
    for name, *options in (("BOB",), ("bob", SCOPE, PROFILE)):
        again = invitations.invite(name, NOW, *options)
        assert (again.id, again.scope, again.email) == (user.id, SCOPE, "bob@example.com")
        assert again.password_hash != user.password_hash
        assert stored(accounts, user) == again


def test_other_options_than_those_of_the_account_are_refused(invitations: Invitations) -> None:
    invitations.invite("bob", NOW, SCOPE, PROFILE)
    with pytest.raises(Refused, match="another scope or profile"):
        invitations.invite("bob", NOW, frozenset({"admin"}))
    with pytest.raises(Refused, match="another scope or profile"):
        invitations.invite("bob", NOW, profile=Profile("Robert"))


def test_an_account_with_a_password_is_not_invited(
    invitations: Invitations, accounts: AccountStore, database: Database
) -> None:
    register_user(accounts, Passwords(), "alice", PASSWORD, NOW)
    with pytest.raises(Refused, match="users reset-link alice"):
        invitations.invite("alice", NOW)
    bob = invitations.invite("bob", NOW)
    FamilyStore(database).set_password_hash(bob.id, Passwords().hash(PASSWORD), NOW)
    assert stored(accounts, bob).invited_at is None
    with pytest.raises(Refused, match="users reset-link bob"):
        invitations.invite("bob", NOW)


def test_a_disabled_account_is_not_invited(invitations: Invitations, database: Database) -> None:
    bob = invitations.invite("bob", NOW)
    FamilyStore(database).disable(bob.id, NOW)
    with pytest.raises(Refused, match="users enable bob"):
        invitations.invite("bob", NOW)


def test_a_name_that_is_not_accepted_is_refused(invitations: Invitations) -> None:
    with pytest.raises(InvalidRequest):
        invitations.invite("two words", NOW)


def test_of_two_invitations_at_once_one_is_valid(invitations: Invitations, accounts: AccountStore) -> None:
    def invite(_: int) -> User | None:
        try:
            return invitations.invite("bob", NOW)
        except (Refused, UsernameTaken):
            return None

    with ThreadPoolExecutor(4) as pool:
        invited = [user for user in pool.map(invite, range(4)) if user]
    found = accounts.by_username("bob")
    assert found in invited
    assert len({user.id for user in invited}) == 1


def test_a_password_that_is_chosen_during_another_invitation_stays(
    invitations: Invitations, accounts: AccountStore, database: Database
) -> None:
    bob = invitations.invite("bob", NOW)
    FamilyStore(database).set_password_hash(bob.id, "chosen", NOW)
    assert not accounts.invite_again(bob, "another", NOW)
    assert stored(accounts, bob).password_hash == "chosen"
