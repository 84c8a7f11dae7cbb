"""The tables of the census, on SQLite and PostgreSQL: rows of many processes merge, and there are bounds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from support.defaults import START

from issuer.database.database import Database
from issuer.keyring import census_store
from issuer.keyring.census import KEPT, Evidence, KeySet, Sighting
from issuer.keyring.census_store import CensusStore
from issuer.maintenance.pruning import prune

SECOND = timedelta(seconds=1)
SERVED = KeySet('"a"', 1, ("k1", "k2"), START)
SEEN = Sighting("billing", "10.0.0.7", "3f9a2c1b", '"a"', Evidence.GIVEN, START, listening=False)


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def store(database: Database) -> CensusStore:
    return CensusStore(database)


def names(store: CensusStore) -> set[str]:
    return {each.name for each in store.load(START)[0]}


def test_what_is_saved_can_be_loaded(store: CensusStore) -> None:
    store.save([SEEN], [SERVED])
    assert store.load(START) == ([SEEN], {'"a"': SERVED}, [])


def test_of_several_processes_the_latest_request_counts_in_whatever_order_they_save(
    store: CensusStore,
) -> None:
    later = replace(SEEN, etag='"b"', evidence=Evidence.PRESENTED, seen_at=START + SECOND, listening=True)
    newer = KeySet('"a"', 2, ("k1", "k2"), START + SECOND)
    other = replace(SEEN, instance="00000000")
    store.save([later, other], [newer])
    store.save([SEEN], [SERVED])
    sightings, key_sets, _ = store.load(START + SECOND)
    assert sorted(sightings, key=lambda each: each.instance) == [other, later]
    assert key_sets == {'"a"': newer}


def test_processes_that_save_the_same_verifiers_at_once_do_not_hinder_each_other(store: CensusStore) -> None:
    many = [replace(SEEN, name=f"v{number}") for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(store.save, many[::step], [SERVED]) for step in (1, -1, 1, -1)]:
            done.result()
    assert len(names(store)) == 200


def test_verifiers_and_key_sets_are_deleted_two_days_after_the_last_request(
    store: CensusStore, database: Database
) -> None:
    store.save([SEEN], [SERVED])
    assert prune(database, START + KEPT) == 0
    assert prune(database, START + KEPT + SECOND) == 2
    assert store.load(START) == ([], {}, [])


def test_a_stranger_with_many_names_evicts_his_own_and_no_verifier_that_returned_or_listens(
    store: CensusStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_store, "SUBNET_MOST", 3)
    monkeypatch.setattr(census_store, "MOST", 6)
    listener = replace(SEEN, name="listener", listening=True)
    store.save([SEEN, listener], [])
    store.save([replace(SEEN, seen_at=START + SECOND)], [])
    later = START + 9 * SECOND
    crowd = [replace(SEEN, name=f"x{number}", address="192.0.2.1", seen_at=later) for number in range(9)]
    store.save(crowd, [])
    assert prune(database, later) == 6
    assert {"billing", "listener"} < names(store)
    scattered = [replace(SEEN, name=f"y{n}", address=f"192.0.2.{n}", seen_at=later) for n in range(2, 20)]
    store.save(scattered, [])
    assert prune(database, later) == 2 + 3 + 18 - 6
    assert {"billing", "listener"} < names(store)
    assert len(names(store)) == 6


def test_a_damaged_row_is_reported_and_the_others_are_shown(store: CensusStore, database: Database) -> None:
    store.save([SEEN, replace(SEEN, name="other")], [SERVED])
    with database.write() as connection:
        table = census_store.verifiers
        connection.execute(update(table).where(table.c.name == "other").values(evidence=Evidence.GIVEN))
        connection.exec_driver_sql("UPDATE verifiers SET evidence = 'rumour' WHERE name = 'other'")
    sightings, _, errors = store.load(START)
    assert sightings == [SEEN]
    assert "verifiers in the database is damaged" in str(errors[0])
