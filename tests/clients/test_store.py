"""The store of clients, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from support.stores import NOW

from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.store import ClientStore, Filters
from issuer.database.database import Database
from issuer.oauth import AuthMethod, GrantType


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_a_stored_client_is_loaded_unchanged(database: Database) -> None:
    store = ClientStore(database)
    client = Client(
        "id",
        "a machine",
        AuthMethod.BASIC,
        frozenset({"a"}),
        NOW,
        ("x", "y"),
        b"digest",
        grant_types=frozenset(GrantType),
    )
    store.add(client)
    assert store.by_id("id") == client
    assert store.by_id("other") is None
    store.set_disabled("id", NOW)
    assert store.all() == ([replace(client, disabled_at=NOW)], [])


def test_the_built_in_client_is_not_stored(database: Database) -> None:
    assert ClientStore(database).by_id("first-party") is FIRST_PARTY
    assert ClientStore(database).all() == ([], [])


def listed(number: int, name: str = "a machine", **changes: object) -> Client:
    made = Client(
        f"id-{number:02}", name, AuthMethod.BASIC, frozenset(), NOW + timedelta(seconds=number // 2)
    )
    return replace(made, **changes)  # type: ignore[arg-type] # of each test


def pages(store: ClientStore, limit: int, filters: Filters = Filters()) -> list[list[str]]:  # noqa: B008
    found, after = list[list[str]](), None
    while True:
        page = store.page(filters, after, limit)
        found.append([client.id for client in page.clients])
        after = page.next_after
        if after is None:
            return found


def test_clients_are_listed_in_pages_in_the_order_of_their_creation(database: Database) -> None:
    store = ClientStore(database)
    for number in (3, 1, 4, 0, 2):
        store.add(listed(number))
    everything = ["id-00", "id-01", "id-02", "id-03", "id-04"]
    assert pages(store, 2) == [everything[:2], everything[2:4], everything[4:]]
    assert pages(store, 5) == pages(store, 6) == [everything]
    with pytest.raises(LookupError):
        store.page(Filters(), "unknown", 2)


def test_clients_are_found_by_a_part_of_name_or_id_and_special_characters_mean_themselves(
    database: Database,
) -> None:
    store = ClientStore(database)
    for number, name in enumerate(("Shop", "50% off", "a_b", "aXb", "back\\slash")):
        store.add(listed(number, name, disabled_at=NOW if number % 2 else None))
    for like, expected in (("sHo", [0]), ("%", [1]), ("a_b", [2]), ("\\", [4]), ("ID-03", [3]), ("x", [3])):
        assert pages(store, 2, Filters(like)) == [[f"id-{number:02}" for number in expected]], like
    assert pages(store, 9, Filters(disabled=True)) == [["id-01", "id-03"]]
    assert pages(store, 9, Filters("off", disabled=True)) == [["id-01"]]
    assert pages(store, 9, Filters("nothing like it")) == [[]]


def test_a_page_reports_a_damaged_client_and_goes_on_after_it(database: Database) -> None:
    store = ClientStore(database)
    for number in range(3):
        store.add(listed(number))
    with database.write() as connection:
        connection.execute(text("UPDATE clients SET grant_types = 'x' WHERE id = 'id-01'"))
    page = store.page(Filters(), None, 2)
    assert ([client.id for client in page.clients], len(page.damaged), page.next_after) == (
        ["id-00"],
        1,
        "id-01",
    )
    assert pages(store, 1) == [["id-00"], [], ["id-02"]]


def test_a_page_is_read_through_an_index(database: Database) -> None:
    """Whatever number of clients there is, a page costs the same."""
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    page = (
        "SELECT * FROM clients WHERE (created_at, id) > ('2026-01-01', 'x') ORDER BY created_at, id LIMIT 3"
    )
    with database.snapshot() as connection:
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = str(connection.execute(text(f"{explain} {page}")).all())
    assert "ix_clients_order" in plan
    assert "SORT" not in plan.upper().replace("SORT KEY", "")
    assert "TEMP B-TREE" not in plan
