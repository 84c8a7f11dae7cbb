"""The store of heartbeats, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, text
from support.example_rings import POLICY
from support.stores import NOW

from issuer.database.database import Database
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore, heartbeats


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_only_the_latest_heartbeat_of_a_process_is_stored(database: Database) -> None:
    store = HeartbeatStore(database)
    long_ago = NOW - timedelta(days=1)
    beat = Heartbeat.of("1", "node-a/7", 3, POLICY, NOW)
    store.beat(beat, long_ago)
    store.beat(replace(beat, id="2"), long_ago)  # of the same name, perhaps in another container
    later = Heartbeat.of("1", "node-a/7", 4, POLICY, NOW + timedelta(seconds=1))
    store.beat(later, long_ago)
    assert set(store.all()) == {later, replace(beat, id="2")}
    store.beat(later, beat.served_until + timedelta(microseconds=1))
    assert store.all() == (later,)


def test_a_locked_heartbeat_does_not_block_other_processes(shared: Database) -> None:
    store = HeartbeatStore(shared)
    stopped = Heartbeat.of("1", "stopped", 3, POLICY, NOW)
    store.beat(stopped, NOW)
    later = stopped.served_until + timedelta(days=1)
    with shared.write() as connection:
        connection.execute(delete(heartbeats).where(heartbeats.c.id == "1"))
        store.beat(Heartbeat.of("2", "alive", 3, POLICY, later), later)
        assert {beat.name for beat in store.all()} == {"stopped", "alive"}
        assert connection.scalar(text("SELECT 1")) == 1  # it was not taken from it
