"""Operators change the profile of a user."""

from datetime import timedelta

import pytest
from support.defaults import PASSWORD, START

from issuer.accounts.profile import require_profile
from issuer.accounts.registration import register_user
from issuer.accounts.user import User
from issuer.administration.users import change_profile
from issuer.oauth import InvalidRequest
from issuer.services import Issuer

LATER = START + timedelta(days=1)


@pytest.fixture
def user(issuer: Issuer) -> User:
    profile = require_profile("Alice A.", "alice@mail.example", email_verified=True)
    accounts = issuer.accounts
    return register_user(accounts.store, accounts.passwords, "alice", PASSWORD, START, frozenset(), profile)


def stored(issuer: Issuer) -> User:
    found = issuer.accounts.store.by_username("alice")
    assert found
    return found


def test_a_new_account_has_its_profile(issuer: Issuer, user: User) -> None:
    assert stored(issuer) == user
    assert (user.name, user.email, user.email_verified) == ("Alice A.", "alice@mail.example", True)


def test_what_is_not_given_stays(issuer: Issuer, user: User) -> None:
    changed = change_profile(issuer.accounts.store, user, LATER, name="Alice B.")
    assert stored(issuer) == changed
    assert (changed.name, changed.email, changed.email_verified) == ("Alice B.", "alice@mail.example", True)
    assert changed.updated_at == LATER


def test_another_address_is_not_verified(issuer: Issuer, user: User) -> None:
    assert not change_profile(issuer.accounts.store, user, LATER, email="other@mail.example").email_verified
    same = change_profile(issuer.accounts.store, user, LATER, email="alice@mail.example")
    assert same.email_verified
    known = change_profile(
        issuer.accounts.store, user, LATER, email="other@mail.example", email_verified=True
    )
    assert stored(issuer) == known
    assert known.email_verified


def test_an_empty_text_removes(issuer: Issuer, user: User) -> None:
    removed = change_profile(issuer.accounts.store, user, LATER, name="", email="")
    assert stored(issuer) == removed
    assert (removed.name, removed.email, removed.email_verified) == (None, None, False)


def test_an_address_that_is_not_there_cannot_be_verified(issuer: Issuer, user: User) -> None:
    with pytest.raises(InvalidRequest):
        change_profile(issuer.accounts.store, user, LATER, email="", email_verified=True)
    assert stored(issuer) == user
