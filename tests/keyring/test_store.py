"""The store of the key ring: compare-and-swap, with the audit, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update
from support.defaults import sound_key
from support.example_rings import POLICY, START
from support.stores import ENTRY, NOW

from issuer.audit.chain import EMPTY
from issuer.audit.store import AuditStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable, StoreError
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore, key_ring

FIRST = replace(KeyRing.create([sound_key("a"), sound_key("b")], POLICY, START), version=1)


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def after(ring: KeyRing, kid: str) -> KeyRing:
    return replace(ring.published([sound_key(kid)], POLICY, NOW), version=ring.version + 1)


def test_a_saved_ring_is_loaded_unchanged(database: Database) -> None:
    store = RingStore(database)
    assert store.load() is None
    ring = FIRST.revoked(sound_key("b").kid, "why", POLICY, NOW, compromised=True)
    assert store.save(ring) == ring
    assert store.load() == ring


def test_a_second_first_ring_is_not_saved_and_not_recorded(database: Database) -> None:
    store = RingStore(database)
    assert store.save(FIRST) is not None
    assert store.save(FIRST, [ENTRY]) is None
    assert AuditStore(database).chain() == ([], EMPTY)


def test_only_one_of_two_changes_of_the_same_version_is_saved(database: Database) -> None:
    store = RingStore(database)
    store.save(FIRST)
    second = after(FIRST, "c")
    assert store.save(second, [ENTRY]) == second
    assert store.save(after(FIRST, "d"), [ENTRY]) is None
    assert store.load() == second
    assert len(AuditStore(database).chain()[0]) == 1


def test_a_change_that_comes_too_late_is_neither_saved_nor_recorded(database: Database) -> None:
    store = RingStore(database)
    store.save(FIRST)
    assert store.save(after(FIRST, "c"), [ENTRY], lambda: False) is None
    assert store.load() == FIRST
    assert AuditStore(database).chain() == ([], EMPTY)


def test_only_one_of_many_processes_saves_the_next_version(url: str, database: Database) -> None:
    RingStore(database).save(FIRST)

    def save(_number: int) -> bool:
        own = Database(url)
        try:
            return RingStore(own).save(after(FIRST, "c"), [ENTRY]) is not None
        finally:
            own.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(save, range(8))) == 1
    assert len(AuditStore(database).chain()[0]) == 1


def test_saving_does_not_wait_long_for_a_locked_ring(shared: Database) -> None:
    store = RingStore(shared)
    store.save(FIRST)
    with shared.write() as connection:
        connection.execute(update(key_ring).values(version=7))
        assert store.save(after(FIRST, "c"), [ENTRY]) is None
        assert connection.scalar(text("SELECT 1")) == 1
        connection.rollback()
    assert store.load() == FIRST
    assert AuditStore(shared).chain() == ([], EMPTY)


def test_the_transaction_of_a_stopped_process_is_rolled_back(shared: Database) -> None:
    RingStore(shared).save(FIRST)

    def stop() -> None:
        with shared.write() as stopped:
            stopped.execute(update(key_ring).values(version=7))
            with shared.write() as connection:  # waits for the other
                connection.execute(update(key_ring).values(version=8))

    with pytest.raises(DatabaseUnavailable):
        stop()
    with shared.read() as connection:
        assert connection.scalar(select(key_ring.c.version)) == 8


def test_an_error_of_the_database_while_saving_is_raised(
    database: Database,
) -> None:
    store = RingStore(database)
    store.save(FIRST)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE audit ADD COLUMN wanted TEXT"))
        connection.execute(text("DROP TABLE audit"))
        connection.execute(text("CREATE TABLE audit (number INTEGER PRIMARY KEY, wanted TEXT NOT NULL)"))
    with pytest.raises(StoreError):
        store.save(after(FIRST, "c"), [ENTRY])
    assert store.load() == FIRST


def test_a_damaged_ring_is_an_error_that_names_the_backup(database: Database) -> None:
    RingStore(database).save(FIRST)
    for document in ("garbage", "{}", '{"version": 1}'):
        with database.write() as connection:
            connection.execute(update(key_ring).values(document=document))
        with pytest.raises(DatabaseDamaged, match="restore the backup"):
            RingStore(database).load()
