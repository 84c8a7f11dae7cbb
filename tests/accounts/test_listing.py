"""Pages of users: in the order of names, filtered, and served by indexes on both databases."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql, sqlite
from support.stores import NOW, user

from issuer.accounts.listing import page, page_query
from issuer.accounts.store import AccountStore
from issuer.database.database import Database
from issuer.tokens.family_store import FamilyStore

RANGE = re.compile(r"Index Cond: \(+canonical_username")
NAMES = ["zoë", "Alice", "álvaro", "alina", "bob", "Al", "a_b", "a%b", "straße"]


@pytest.fixture
def database(each_database: Database) -> Database:
    # `%` is in no name that may be registered, but a filter must not give it a meaning.
    AccountStore(each_database).add_all([user(name) for name in NAMES])
    return each_database


def names(database: Database, beginning: str = "", **options: bool | str | int) -> list[str]:
    return [each.username for each in page(database, beginning, **options).users]  # type: ignore[arg-type]


def test_pages_follow_each_other_in_one_order_on_every_database(database: Database) -> None:
    found, after = list[str](), ""
    while True:
        some = page(database, after=after, limit=2)
        found += [each.username for each in some.users]
        if some.after is None:
            break
        assert len(some.users) == 2
        after = some.after
    assert found == ["a%b", "a_b", "Al", "Alice", "alina", "bob", "straße", "zoë", "álvaro"]


def test_the_last_page_has_none_after_it_also_if_it_is_full(database: Database) -> None:
    assert page(database, limit=len(NAMES)).after is None
    assert page(database, limit=len(NAMES) - 1).after == "zoë"


def test_a_beginning_is_found_in_any_spelling_and_has_no_wildcards(database: Database) -> None:
    assert names(database, "AL") == ["Al", "Alice", "alina"]
    assert names(database, "STRASS") == ["straße"]
    assert names(database, "a_") == ["a_b"]
    assert names(database, "a%") == ["a%b"]
    assert names(database, "lice") == []
    assert names(database, "al", after="ALICE") == ["alina"]


def test_disabled_users_alone_are_found(database: Database) -> None:
    bob = AccountStore(database).by_username("bob")
    assert bob
    FamilyStore(database).disable(bob.id, NOW + timedelta(days=1))
    assert names(database, is_disabled=True) == ["bob"]
    assert names(database, "al", is_disabled=True) == []


def plan(database: Database, query: Select[tuple[object, ...]]) -> str:
    dialect = sqlite.dialect() if database.is_sqlite else postgresql.dialect()
    written = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN (COSTS OFF)"
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"{explain} {str(written).replace('%', '%%')}").all()
    return "\n".join(str(row[-1]) for row in rows)


def fill(database: Database) -> None:
    """Add thousands of users, of whom few are disabled: for small tables PostgreSQL uses no index."""
    numbers = (
        "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 20000)"
        if database.is_sqlite
        else "WITH many AS (SELECT generate_series(1, 20000) AS n)"
    )
    at = "'2026-01-01 00:00:00.000000'" if database.is_sqlite else "CAST('2026-01-01' AS timestamptz)"
    with database.write() as connection:
        columns = (
            "id, username, canonical_username, password_hash, scope, created_at, disabled_at, email_verified,"
            " draw, attributes"
        )
        rows = f"n, 'u' || n, 'u' || n, '-', '', {at}, CASE n % 10 WHEN 0 THEN {at} END, false, n, '{{}}'"
        connection.execute(text(f"{numbers} INSERT INTO users ({columns}) SELECT {rows} FROM many"))  # noqa: S608
        connection.execute(text("ANALYZE users"))


def test_every_page_is_a_range_of_an_index_without_sorting(each_database: Database) -> None:
    database = each_database
    fill(database)
    for beginning, is_disabled, after in (
        ("", False, ""),
        ("", False, "u5"),
        ("u7", False, ""),
        ("u7", False, "u71"),
        ("", True, ""),
        ("u7", True, "u71"),
    ):
        found = plan(database, page_query(beginning, is_disabled=is_disabled, after=after, limit=21))
        index = "disabled_users" if is_disabled else "users_canonical_username"
        if database.is_sqlite and not is_disabled:
            index = "sqlite_autoindex_users"
        lines = [line for line in found.splitlines() if "role" not in line]
        assert index in found, found
        assert "SCAN users\n" not in f"{found}\n", found
        assert not any(
            word in line for line in lines for word in ("Seq Scan on users", "Sort", "TEMP B-TREE")
        )
        if beginning or after:
            assert "SEARCH users" in found or RANGE.search(found), found
    assert names(database, "u77", limit=3) == ["u77", "u770", "u7700"]
    assert names(database, is_disabled=True, limit=2) == ["u10", "u100"]
