"""Pruning: expired rows are deleted in batches, on SQLite and PostgreSQL."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from support.stores import MONTH, NOW, family_with_token, found

from issuer.database.database import Database
from issuer.maintenance.pruning import BATCH, prune
from issuer.throttling.limits import ACCOUNT, Bucket
from issuer.throttling.store import ThrottleStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import RefreshRotation, stored
from issuer.tokens.refresh_rotation import families
from issuer.tokens.refresh_text import new_refresh_token, successor


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_expired_rows_are_deleted_in_batches_and_families_with_their_last_token(database: Database) -> None:
    idle, _ = family_with_token(database)
    family = replace(idle, id=str(uuid.uuid4()), expires_at=NOW + 3 * MONTH)
    first = new_refresh_token(family.id)
    store = FamilyStore(database)
    assert store.start(family, stored(first, family, NOW, MONTH))
    token, _ = found(database, first)
    second = successor(first, token.successor_seed, family.id)
    then = NOW + MONTH - timedelta(days=1)
    assert store.rotate(RefreshRotation(token, stored(second, family, then, MONTH), then, then))
    buckets = [Bucket(number.to_bytes(8), ACCOUNT) for number in range(BATCH + 10)]
    ThrottleStore(database).fail(buckets, NOW)
    later = NOW + MONTH + timedelta(days=1)
    assert prune(database, later) == 3 + BATCH  # two tokens, and the family that has no other
    assert prune(database, later) == 10
    assert prune(database, later) == 0
    with database.read() as connection:
        assert list(connection.scalars(select(families.c.id))) == [family.id]
    assert found(database, second)
