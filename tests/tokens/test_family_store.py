"""The store of refresh families: single use, and what ends a session, on SQLite and PostgreSQL."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from support.stores import MONTH, NOW, family_with_token, found, user

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, VerifiedPassword
from issuer.database.database import Database, metadata
from issuer.digests import digest
from issuer.tokens.family_queries import SESSIONS_MOST
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import RefreshRotation, stored
from issuer.tokens.refresh_text import new_refresh_token, successor


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_a_refresh_token_is_found_with_its_family_and_only_its_digest_is_stored(database: Database) -> None:
    family, token = family_with_token(database)
    record, same_family = found(database, token)
    assert same_family == family
    assert record.expires_at == NOW + MONTH
    assert record.used_at is None
    with database.read() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
    assert token not in repr(rows)
    assert token.encode() not in b"".join(value for row in rows for value in row if isinstance(value, bytes))


def test_only_one_of_fifty_concurrent_redemptions_rotates_the_token(database: Database) -> None:
    store = FamilyStore(database)
    family, token = family_with_token(database)
    record, _ = found(database, token)
    next_token = stored(successor(token, record.successor_seed, family.id), family, NOW, MONTH)
    with ThreadPoolExecutor(50) as pool:
        rotated = list(
            pool.map(lambda _: store.rotate(RefreshRotation(record, next_token, NOW, NOW)), range(50))
        )
    assert rotated.count(True) == 1
    assert found(database, token)[0].used_at == NOW
    assert found(database, successor(token, record.successor_seed, family.id))[0] == next_token


def test_a_token_of_an_ended_family_does_not_rotate(database: Database) -> None:
    store = FamilyStore(database)
    family, token = family_with_token(database)
    record, _ = found(database, token)
    store.end(family.id, NOW)
    assert not store.rotate(
        RefreshRotation(record, stored(new_refresh_token(family.id), family, NOW, MONTH), NOW, NOW)
    )
    assert found(database, token)[1].ended_at == NOW


def test_the_oldest_sessions_of_a_user_end_when_there_are_too_many(database: Database) -> None:
    store, accounts = FamilyStore(database), AccountStore(database)
    owner, other = user("owner"), user("other")
    for each in (owner, other):
        accounts.add(each)
    family, _ = family_with_token(database)

    def start(of: User, number: int) -> None:
        began = replace(
            family, id=str(uuid.uuid4()), user_id=of.id, created_at=NOW + timedelta(seconds=number)
        )
        assert store.start(began, stored(new_refresh_token(began.id), began, NOW, MONTH))

    start(other, 0)
    for number in range(SESSIONS_MOST + 2):
        start(owner, number)
    living = [each.created_at for each, _ in store.active(owner.id, NOW)[0]]
    assert (len(living), living[-1]) == (SESSIONS_MOST, NOW + timedelta(seconds=2))
    assert len(store.active(other.id, NOW)[0]) == 1


@pytest.mark.parametrize("change", ["password", "disable"])
def test_changing_a_password_or_disabling_an_account_ends_only_the_sessions_of_that_user(
    database: Database, change: str
) -> None:
    store = FamilyStore(database)
    (mine, my_token), (_, other_token) = family_with_token(database), family_with_token(database)
    if change == "password":
        store.set_password_hash(mine.user_id, "another", NOW)
    else:
        store.disable(mine.user_id, NOW)
    assert found(database, my_token)[1].ended_at == NOW
    assert found(database, other_token)[1].ended_at is None


def test_a_log_in_starts_no_session_if_the_password_was_changed_meanwhile(
    database: Database,
) -> None:
    store = FamilyStore(database)
    family, _ = family_with_token(database)
    store.set_password_hash(family.user_id, "changed", NOW)
    late = replace(family, id=str(uuid.uuid4()))
    token = new_refresh_token(late.id)
    assert not store.start(late, stored(token, late, NOW, MONTH), VerifiedPassword("a hash", "an upgrade"))
    user = AccountStore(database).by_id(family.user_id)
    assert user
    assert user.password_hash == "changed"
    assert store.find(digest(token)) is None


def test_a_family_starts_without_a_password_for_an_account_that_is_not_disabled(database: Database) -> None:
    store = FamilyStore(database)
    family, _ = family_with_token(database)
    store.set_password_hash(family.user_id, "changed", NOW)
    again = replace(family, id=str(uuid.uuid4()))
    assert store.start(again, stored(new_refresh_token(again.id), again, NOW, MONTH))
    store.disable(family.user_id, NOW)
    late = replace(family, id=str(uuid.uuid4()))
    token = new_refresh_token(late.id)
    assert not store.start(late, stored(token, late, NOW, MONTH))
    assert store.find(digest(token)) is None


def test_a_log_in_can_replace_the_hash_by_a_stronger_one_of_the_same_password(database: Database) -> None:
    family, _ = family_with_token(database)
    again = replace(family, id=str(uuid.uuid4()))
    password = VerifiedPassword("a hash", "a better hash")
    token = stored(new_refresh_token(again.id), again, NOW, MONTH)
    assert FamilyStore(database).start(again, token, password)
    user = AccountStore(database).by_id(family.user_id)
    assert user
    assert user.password_hash == "a better hash"
