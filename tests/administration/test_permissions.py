"""Operators grant and withdraw scopes and roles, and see and end what is active of a user."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from support.stores import NOW, family_with_token, found, signed_in, user

from issuer.accounts.account_lock import SIGNED_IN_INTERVAL
from issuer.accounts.roles import NoSuchRole, Role, RoleStore
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, VerifiedPassword
from issuer.administration.clients import SCOPE_MOST_CHARACTERS
from issuer.administration.permissions import (
    NAMED_MOST,
    grant_roles,
    grant_scope,
    kept_by_roles,
    revoke_roles,
    revoke_scope,
    set_role,
)
from issuer.administration.user_overview import end_session, overview, sessions_of
from issuer.administration.users import NoSuchUser
from issuer.audit.event import ISSUER, Event, EventAction
from issuer.database.database import Database
from issuer.errors import NothingToDo, Refused
from issuer.oauth import InvalidScope
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.account_limits import NO_FAILURES, AccountLimitStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore

HASH = VerifiedPassword("a hash")


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def accounts(database: Database) -> AccountStore:
    return AccountStore(database)


@pytest.fixture
def alice(accounts: AccountStore) -> User:
    alice = user()
    accounts.add(alice)
    return alice


def test_scopes_that_are_granted_at_the_same_time_are_all_granted(
    accounts: AccountStore, alice: User
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: grant_scope(accounts, alice, frozenset({name})), "cdefghij"))
    assert accounts.by_id(alice.id).scope == {*"bcdefghij", "items:read"}  # type: ignore[union-attr]


def test_scopes_are_replaced_and_withdrawn(accounts: AccountStore, alice: User) -> None:
    assert grant_scope(accounts, alice, frozenset({"x", "y"}), only=True).scope == {"x", "y"}
    assert revoke_scope(accounts, alice, frozenset({"x", "z"})).scope == {"y"}
    with pytest.raises(NothingToDo):
        revoke_scope(accounts, alice, frozenset({"x"}))
    with pytest.raises(InvalidScope):
        grant_scope(accounts, alice, frozenset({"x" * 1500, "y" * 600}))
    with pytest.raises(NoSuchUser):
        grant_scope(accounts, user("nobody"), frozenset({"x"}))


def test_a_withdrawn_scope_may_remain_by_a_role(
    accounts: AccountStore, alice: User, database: Database
) -> None:
    roles = RoleStore(database)
    roles.set(Role("reader", frozenset({"items:read"}), NOW))
    alice = grant_roles(accounts, roles, alice, {"reader"})
    alice = revoke_scope(accounts, alice, frozenset({"items:read"}))
    assert "items:read by a role" in kept_by_roles(alice, frozenset({"items:read"}))
    with pytest.raises(NothingToDo, match="by a role"):
        revoke_scope(accounts, alice, frozenset({"items:read"}))
    alice = revoke_roles(accounts, roles, alice, frozenset({"reader"}))
    assert alice.effective_scope == {"b"}
    with pytest.raises(NothingToDo):
        revoke_roles(accounts, roles, alice, frozenset({"reader"}))


def test_roles_are_granted_all_or_none_and_not_too_many(
    accounts: AccountStore, alice: User, database: Database
) -> None:
    roles = RoleStore(database)
    for number in range(9):
        roles.set(Role(f"r{number}", frozenset({f"s{number}" * 150}), NOW))
    with pytest.raises(NoSuchRole, match="unknown"):
        grant_roles(accounts, roles, alice, {"r1", "unknown"})
    with pytest.raises(Refused):
        grant_roles(accounts, roles, alice, {f"r{number}" for number in range(9)})
    with pytest.raises(InvalidScope):  # together they would make tokens too long
        grant_roles(accounts, roles, alice, {f"r{number}" for number in range(8)})
    assert accounts.by_id(alice.id) == alice


def test_a_role_does_not_grow_beyond_what_a_user_who_has_it_may_have(
    accounts: AccountStore, alice: User, database: Database
) -> None:
    roles, event = RoleStore(database), Event(NOW, ISSUER, EventAction.ROLE_SET)
    others = [user(f"bob{number}") for number in range(NAMED_MOST)]
    accounts.add_all(others)
    for number in range(4):
        roles.set(Role(f"r{number}", frozenset({f"s{number}" * 240}), NOW))
    small = Role("r4", frozenset({"x"}), NOW)
    assert set_role(database, accounts, roles, small, event)
    for each in (alice, *others):
        grant_roles(accounts, roles, each, {f"r{number}" for number in range(5)})
    large = replace(small, scope=frozenset({"y" * 400}))
    # Others are not read: a million users may have the role.
    assert accounts.with_role("r4", SCOPE_MOST_CHARACTERS) == []
    with pytest.raises(Refused, match=f"^{len(others) + 1} of the users .*: alice, bob0, .*, …; see: issuer"):
        set_role(database, accounts, roles, large, event)
    assert roles.find("r4") == small
    with pytest.raises(InvalidScope):
        grant_scope(accounts, alice, large.scope)
    assert not set_role(database, accounts, roles, replace(small, scope=frozenset({"z"})), event)
    revoke_roles(accounts, roles, alice, frozenset({"r0"}))
    for each in others:
        revoke_roles(accounts, roles, each, frozenset({"r4"}))
    assert not set_role(database, accounts, roles, large, event)


def test_the_last_sign_in_is_stored_at_most_every_few_minutes(
    accounts: AccountStore, alice: User, database: Database
) -> None:
    store = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    assert alice.signed_in_at is None
    times = [timedelta(0), SIGNED_IN_INTERVAL / 2, SIGNED_IN_INTERVAL, timedelta(days=1)]
    stored = []
    for time in times:
        assert store.start(alice.id, HASH, "1", ("pwd",), Origin(), NOW + time)
        stored.append(accounts.by_id(alice.id).signed_in_at)  # type: ignore[union-attr]
    assert stored == [NOW, NOW, NOW + times[2], NOW + times[3]]
    assert store.start(alice.id, HASH, "1", ("pwd",), Origin(), NOW)  # after a clock that was ahead
    assert accounts.by_id(alice.id).signed_in_at == NOW  # type: ignore[union-attr]


def test_sessions_of_browsers_and_applications_are_shown_and_ended(database: Database) -> None:
    browsers, browser = signed_in(database)
    families, limits = FamilyStore(database), AccountLimitStore(database)
    family, token = family_with_token(database)
    accounts = AccountStore(database)
    of_browser, of_family = accounts.by_id(browser.user_id), accounts.by_id(family.user_id)
    assert of_browser
    assert of_family
    assert of_browser.signed_in_at == NOW
    seen = overview(browsers, families, limits, of_browser, NOW)
    assert [(each.id, each.client_id) for each in seen.sessions] == [(browser.id, None)]
    assert (seen.limits.account, seen.limits.known_devices, seen.damaged) == (NO_FAILURES, 0, [])
    shown, _ = sessions_of(browsers, families, of_family, NOW)
    assert [(each.id, each.client_id, each.scope) for each in shown] == [
        (family.id, "first-party", family.scope)
    ]
    # Never a session of another user, whose id an operator may have copied.
    assert not end_session(families, of_browser, family.id, NOW)
    assert not end_session(families, of_family, browser.id, NOW)
    assert end_session(families, of_browser, browser.id, NOW)
    assert end_session(families, of_family, family.id, NOW)
    assert not end_session(families, of_family, family.id, NOW)
    assert found(database, token)[1].ended_at == NOW
    assert sessions_of(browsers, families, of_browser, NOW) == ([], [])
