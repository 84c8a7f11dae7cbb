"""Log-in by password, independent of any grant: its result, and which failures count."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from support.defaults import START

from issuer.accounts.login import AccountChanged, AuthenticatedUser, PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.events import EventStore
from issuer.database.database import Database
from issuer.oauth import LoginFailed, TooManyAttempts
from issuer.throttling.guard import Guard
from issuer.throttling.limits import ACCOUNT
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore

CHEAP = Passwords(memory_kib=8, passes=1)
RIGHT = "violet otters juggle pancakes"
ORIGIN = Origin("a test", "192.0.2.1")


@pytest.fixture
def user(database: Database) -> User:
    user = User("1", "alice", CHEAP.hash(RIGHT), frozenset(), START)
    AccountStore(database).add(user)
    return user


@pytest.fixture
def login(database: Database, user: User) -> PasswordLogin:
    guard, events = Guard(ThrottleStore(database)), EventStore(database)
    return PasswordLogin(AccountStore(database), CHEAP, guard, events)


def attempt(
    login: PasswordLogin, then: Callable[[AuthenticatedUser], object], password: str = RIGHT
) -> object:
    return login.authenticate("Alice", password, ORIGIN, START, then)


def test_the_user_of_a_right_password_is_handed_on_with_the_hash_that_was_verified(
    login: PasswordLogin, user: User
) -> None:
    def then(authenticated: AuthenticatedUser) -> str:
        assert authenticated.user == user
        assert authenticated.password.current_hash == user.password_hash
        assert authenticated.password.upgraded_hash is None
        return "a session"

    assert attempt(login, then) == "a session"


def test_nothing_is_started_for_a_wrong_password(login: PasswordLogin) -> None:
    started: list[AuthenticatedUser] = []
    with pytest.raises(LoginFailed):
        attempt(login, started.append, "wrong")
    assert not started


def test_an_account_that_changed_meanwhile_is_verified_once_more(login: PasswordLogin) -> None:
    changes = iter([AccountChanged()])

    def then(_authenticated: AuthenticatedUser) -> str:
        for change in changes:
            raise change
        return "a session"

    assert attempt(login, then) == "a session"


def test_a_refusal_after_the_password_was_verified_counts_as_a_failed_attempt(login: PasswordLogin) -> None:
    def refuse(_authenticated: AuthenticatedUser) -> None:
        raise AccountChanged

    for _ in range(ACCOUNT.free + 1):
        login.check("alice", ORIGIN, START)
        with pytest.raises(LoginFailed):
            attempt(login, refuse)
    with pytest.raises(TooManyAttempts) as refusal:
        attempt(login, lambda _: None, "wrong")
    assert refusal.value.retry_after == timedelta(seconds=1)
