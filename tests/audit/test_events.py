"""Events of accounts and clients as stored, on SQLite and PostgreSQL: one row each, or sums by hour."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select
from support.stores import NOW

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.event import ISSUER, UNKNOWN, Event, EventAction, Recorded, by_client, by_user
from issuer.audit.event_search import EventSearch, Filters
from issuer.audit.events import UNKNOWN_SHARDS, EventStore, account_events, continue_numbers, record
from issuer.database.database import Database
from issuer.maintenance.pruning import CLOCKS_DIFFER, prune

ALICE = "11111111-1111-4111-8111-111111111111"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DISABLED = Event(NOW, "root on host", EventAction.USER_DISABLED, ALICE, reason="left the company")
SIGNED_IN = Event(NOW, by_user(ALICE), EventAction.SIGNED_IN, ALICE, "app")


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def rows(database: Database) -> list[Recorded]:
    found, damaged = EventSearch(database).newest(Filters(), 1000)
    assert damaged == []
    return [each for each in found if isinstance(each, Recorded)]


def test_each_change_by_an_operator_has_a_row_of_its_own(database: Database) -> None:
    EventStore(database).record(DISABLED, DISABLED)
    assert [(each.count, each.since, each.event) for each in rows(database)] == 2 * [(1, NOW, DISABLED)]


def test_an_event_is_stored_with_the_change_or_not_at_all(database: Database) -> None:
    with database.write() as connection:
        record(connection, DISABLED, SIGNED_IN)
        connection.rollback()
    assert rows(database) == []


def test_what_people_do_is_counted_by_hour_and_the_row_gets_a_new_number_each_time(
    database: Database,
) -> None:
    store = EventStore(database)
    store.record(SIGNED_IN)
    [first] = rows(database)
    again = replace(SIGNED_IN, at=NOW + timedelta(minutes=5), detail="newest")
    store.record(DISABLED, again)
    _, summed = rows(database)
    assert (summed.count, summed.since, summed.event) == (2, NOW, again)
    assert summed.number > first.number
    store.record(replace(SIGNED_IN, at=NOW + HOUR))
    assert [each.count for each in rows(database)] == [1, 2, 1]


@pytest.mark.parametrize(
    "other",
    [
        replace(SIGNED_IN, client_id="another"),
        replace(SIGNED_IN, user_id=ISSUER, actor=by_user(ISSUER)),
        replace(SIGNED_IN, action=EventAction.SESSION_ENDED),
        replace(SIGNED_IN, actor=ISSUER),
        replace(SIGNED_IN, actor=by_client("app")),
    ],
)
def test_sums_are_kept_apart_by_actor_action_account_and_client(database: Database, other: Event) -> None:
    EventStore(database).record(SIGNED_IN, other)
    assert [each.count for each in rows(database)] == [1, 1]


def test_no_event_of_a_sum_is_lost_when_many_are_recorded_at_once(url: str, database: Database) -> None:
    def signed_in(_: int) -> None:
        own = Database(url)
        try:
            EventStore(own).record(SIGNED_IN)
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(signed_in, range(18)))
    assert [each.count for each in rows(database)] == [18]


def test_failures_for_names_without_an_account_take_a_bounded_number_of_rows_without_the_names(
    database: Database,
) -> None:
    store = EventStore(database)
    for number in range(60):
        store.sign_in_failed(None, f"hunter{number}", NOW)
    store.sign_in_failed(ALICE, "alice", NOW)
    store.sign_in_failed(ALICE, "another spelling", NOW)
    unknown = [each for each in rows(database) if each.event.user_id is None]
    assert 1 < len(unknown) <= UNKNOWN_SHARDS
    assert sum(each.count for each in unknown) == 60
    [known] = [each for each in rows(database) if each.event.user_id is not None]
    assert (known.count, known.event) == (2, Event(NOW, UNKNOWN, EventAction.SIGN_IN_FAILED, ALICE))
    assert "hunter" not in repr(rows(database))


def test_events_are_deleted_after_their_retention_but_never_the_newest(database: Database) -> None:
    store = EventStore(database)
    store.record(*(replace(DISABLED, at=NOW + number * DAY) for number in range(4)))
    later = NOW + 2 * DAY + CLOCKS_DIFFER
    assert prune(database, later) == 0
    assert prune(database, later, timedelta(0)) == 0
    assert prune(database, later, DAY) == 1
    assert [each.event.at for each in rows(database)] == [NOW + number * DAY for number in (1, 2, 3)]
    assert prune(database, later + 400 * DAY, DAY) == 2
    assert [each.event.at for each in rows(database)] == [NOW + 3 * DAY]
    store.record(DISABLED)
    assert rows(database)[-1].event.at == NOW + 3 * DAY
    assert max(each.number for each in rows(database)) == 5


def test_an_event_that_a_wrong_clock_dated_far_ahead_is_deleted_as_well(database: Database) -> None:
    EventStore(database).record(replace(DISABLED, at=NOW + 900 * DAY), DISABLED)
    assert prune(database, NOW, 400 * DAY) == 1
    assert [each.event for each in rows(database)] == [DISABLED]


def test_an_import_of_many_users_records_each(database: Database) -> None:
    new = [User(str(uuid.uuid4()), f"user-{number}", "a hash", frozenset(), NOW) for number in range(1500)]
    imported = [Event(NOW, "root", EventAction.USER_IMPORTED, user.id) for user in new]
    AccountStore(database).add_all(new, imported)
    with database.read() as connection:
        count = select(func.count(account_events.c.user_id.distinct()))
        assert connection.scalar(count) == 1500


def test_numbers_go_on_after_events_that_were_copied_from_another_database(database: Database) -> None:
    copied = {**vars(DISABLED), "number": 7, "count": 1, "since": NOW}
    with database.write() as connection:
        continue_numbers(connection)
        connection.execute(insert(account_events).values(copied))
        continue_numbers(connection)
    EventStore(database).record(DISABLED)
    EventStore(database).record(SIGNED_IN)
    assert sorted(each.number for each in rows(database)) == [7, 8, 9]
