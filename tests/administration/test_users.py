"""Operators change the profile of a user."""

from datetime import timedelta
from typing import Any

import pytest
from support.defaults import PASSWORD, START

from issuer.accounts.profile import require_profile
from issuer.accounts.registration import register_user
from issuer.accounts.user import User
from issuer.administration.account_deletion import delete_account
from issuer.administration.users import NoSuchUser, change_profile
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


def change(issuer: Issuer, user: User, **changes: Any) -> User:
    return change_profile(issuer.accounts.store, issuer.administration.mails, user, LATER, **changes)


def test_a_new_account_has_its_profile(issuer: Issuer, user: User) -> None:
    assert stored(issuer) == user
    assert (user.name, user.email, user.email_verified) == ("Alice A.", "alice@mail.example", True)


def test_what_is_not_given_stays(issuer: Issuer, user: User) -> None:
    changed = change(issuer, user, name="Alice B.")
    assert stored(issuer) == changed
    assert (changed.name, changed.email, changed.email_verified) == ("Alice B.", "alice@mail.example", True)
    assert changed.updated_at == LATER


def test_another_address_is_not_verified(issuer: Issuer, user: User) -> None:
    assert change(issuer, user, email="alice@mail.example").email_verified
    assert not change(issuer, user, email="other@mail.example").email_verified
    known = change(issuer, user, email="other@mail.example", email_verified=True)
    assert stored(issuer) == known
    assert known.email_verified


def test_what_was_changed_since_the_user_was_read_stays(issuer: Issuer, user: User) -> None:
    change(issuer, user, email="new@mail.example", email_verified=True)
    changed = change(issuer, user, name="Alice B.")
    assert stored(issuer) == changed
    assert (changed.name, changed.email, changed.email_verified) == ("Alice B.", "new@mail.example", True)


def test_a_user_who_was_deleted_meanwhile_is_not_changed(issuer: Issuer, user: User) -> None:
    assert delete_account(issuer.database, user.id, None, LATER)
    with pytest.raises(NoSuchUser):
        change(issuer, user, name="Alice B.")


def test_an_empty_text_removes(issuer: Issuer, user: User) -> None:
    removed = change(issuer, user, name="", email="")
    assert stored(issuer) == removed
    assert (removed.name, removed.email, removed.email_verified) == (None, None, False)


def test_an_address_that_is_not_there_cannot_be_verified(issuer: Issuer, user: User) -> None:
    with pytest.raises(InvalidRequest):
        change(issuer, user, email="", email_verified=True)
    assert stored(issuer) == user
