"""The search in both audit logs, on SQLite and PostgreSQL: filters, order, and an export that goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from support.postgresql import temporary_database
from support.stores import ENTRY, NOW

from issuer.audit import event_search
from issuer.audit.chain import Link
from issuer.audit.event import Event, EventAction, by_user
from issuer.audit.event_search import EventSearch, Filters, Found, Position, when
from issuer.audit.events import EventStore, record
from issuer.audit.store import AuditStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable

ALICE, BOB = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
HOUR = timedelta(hours=1)


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def event(hours: int, action: EventAction, user: str | None = None, client: str | None = None) -> Event:
    return Event(NOW + hours * HOUR, "root on host", action, user, client)


@pytest.fixture
def search(database: Database) -> EventSearch:
    """A search in logs with an entry about keys each two hours, and events in between."""
    for hours in (0, 2, 4):
        AuditStore(database).record(replace(ENTRY, at=NOW + hours * HOUR))
    EventStore(database).record(
        event(1, EventAction.USER_DISABLED, ALICE),
        event(3, EventAction.CLIENT_DISABLED, client="app"),
        event(5, EventAction.USER_ENABLED, BOB),
    )
    return EventSearch(database)


def hours(found: list[Found]) -> list[int]:
    return [(when(each) - NOW) // HOUR for each in found]


def test_both_logs_are_listed_in_one_order_the_newest_last(search: EventSearch) -> None:
    found, damaged = search.newest(Filters(), 4)
    assert hours(found) == [2, 3, 4, 5]
    assert damaged == []
    assert hours(search.newest(Filters(), 100)[0]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(user_id=ALICE), [1]),
        (Filters(user_id="nobody"), []),
        (Filters(client_id="app"), [3]),
        (Filters(action="published"), [0, 2, 4]),
        (Filters(action="user enabled"), [5]),
        (Filters(since=NOW + 2 * HOUR), [2, 3, 4, 5]),
        (Filters(until=NOW + 2 * HOUR), [0, 1]),
        (Filters(action="published", since=NOW + HOUR, until=NOW + 3 * HOUR), [2]),
        (Filters(user_id=ALICE, client_id="app"), []),
    ],
)
def test_filters_narrow_what_is_found(search: EventSearch, filters: Filters, found: list[int]) -> None:
    assert hours(search.newest(filters, 100)[0]) == found


def fail(error: DatabaseDamaged) -> None:
    raise error


def test_an_export_has_everything_once_and_goes_on_where_it_ended(
    search: EventSearch, database: Database
) -> None:
    exported = list(search.all_after(Position(), fail))
    assert hours([found for _, found in exported]) == [0, 1, 2, 3, 4, 5]
    for position, found in exported:
        rest = [later for _, later in exported[exported.index((position, found)) + 1 :]]
        assert [later for _, later in search.all_after(position, fail)] == rest
    end = exported[-1][0]
    assert list(search.all_after(end, fail)) == []
    EventStore(database).record(event(6, EventAction.USER_DELETED, BOB))
    AuditStore(database).record(replace(ENTRY, at=NOW))
    assert sorted(hours([found for _, found in search.all_after(end, fail)])) == [0, 6]


def test_a_sum_that_counts_more_after_an_export_is_exported_again(database: Database) -> None:
    signed_in = Event(NOW, by_user(ALICE), EventAction.SIGNED_IN, ALICE)
    store, search = EventStore(database), EventSearch(database)
    store.record(signed_in)
    [(end, _)] = search.all_after(Position(), fail)
    store.record(signed_in)
    [(_, again)] = search.all_after(end, fail)
    assert not isinstance(again, Link)
    assert again.count == 2


def test_an_export_reads_more_rows_than_one_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_search, "ROWS_MOST", 3)
    EventStore(database).record(*(event(number, EventAction.USER_DISABLED, ALICE) for number in range(10)))
    exported = [found for _, found in EventSearch(database).all_after(Position(0, 2), fail)]
    assert hours(exported) == list(range(2, 10))


@contextmanager
def recording(database: Database, recorded: Event) -> Iterator[None]:
    """Hold a transaction open that has recorded an event."""
    with database.write() as connection:
        record(connection, recorded)
        yield


@pytest.fixture
def on_postgresql(postgresql: str) -> Iterator[Database]:
    with temporary_database(postgresql) as url, closing(Database(url)) as database:
        database.migrate()
        yield database


def test_an_export_waits_for_transactions_that_have_taken_a_number(
    on_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, store = EventSearch(on_postgresql), EventStore(on_postgresql)
    monkeypatch.setattr(event_search, "LOCK_POLL_SECONDS", 0.01)
    monkeypatch.setattr(event_search, "LOCK_POLLS", 3)
    early, late = event(1, EventAction.USER_DISABLED, ALICE), event(2, EventAction.USER_ENABLED, ALICE)
    with recording(on_postgresql, early):
        store.record(late)  # it has a higher number, and is committed first
        with pytest.raises(DatabaseUnavailable, match="has been recording events"):
            list(search.all_after(Position(), fail))
    assert hours([found for _, found in search.all_after(Position(), fail)]) == [1, 2]
    monkeypatch.setattr(event_search, "LOCK_POLLS", 3000)
    with ThreadPoolExecutor(1) as pool:
        with recording(on_postgresql, replace(early, at=NOW + 3 * HOUR)):
            store.record(replace(late, at=NOW + 4 * HOUR))
            exporting = pool.submit(lambda: list(search.all_after(Position(0, 2), fail)))
        assert hours([found for _, found in exporting.result()]) == [3, 4]


def test_each_filter_has_an_index(search: EventSearch, database: Database) -> None:
    statements = (
        "user_id = 'x' ORDER BY at DESC, number DESC",
        "client_id = 'x' ORDER BY at DESC, number DESC",
        "action = 'x' ORDER BY at DESC, number DESC",
        "at >= '2026-01-01' ORDER BY at DESC, number DESC",
    )
    for statement in statements:
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        with database.write() as connection:
            if not database.is_sqlite:
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            plan = connection.execute(
                text(f"{explain} SELECT * FROM account_events WHERE {statement} LIMIT 9")  # noqa: S608
            )
            assert "ix_account_events_" in repr(plan.all()), statement


@pytest.mark.parametrize("damage", ["count = 'many'", "reason = CAST(x'ff' AS TEXT)", "at = 'yesterday'"])
def test_damaged_rows_are_reported_and_left_out_of_an_export(tmp_path: Path, damage: str) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/lax.db")) as lax:
        lax.migrate()
        EventStore(lax).record(*(event(number, EventAction.USER_DISABLED, ALICE) for number in range(7)))
        with lax.write() as connection:
            connection.execute(text(f"UPDATE account_events SET {damage} WHERE number IN (3, 6)"))  # noqa: S608
        damaged: list[DatabaseDamaged] = []
        exported = list(EventSearch(lax).all_after(Position(), damaged.append))
    assert hours([found for _, found in exported]) == [0, 1, 3, 4, 6]
    assert exported[-1][0] == Position(0, 7)
    assert ["the row 3 of account_events" in str(damaged[0]), "row 6" in str(damaged[1])] == [True, True]


def test_a_damaged_row_does_not_hide_the_others(tmp_path: Path) -> None:
    with closing(
        Database(f"sqlite:///{tmp_path}/lax.db")
    ) as lax:  # PostgreSQL stores no value of another type
        lax.migrate()
        EventStore(lax).record(*(event(number, EventAction.USER_DISABLED, ALICE) for number in range(3)))
        with lax.write() as connection:
            connection.execute(text("UPDATE account_events SET count = 'many' WHERE number = 3"))
        found, damaged = EventSearch(lax).newest(Filters(), 100)
    assert hours(found) == [0, 1]
    assert "account_events" in str(damaged[0])
