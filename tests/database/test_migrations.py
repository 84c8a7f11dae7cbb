"""Migrations: what they create, when they run, and the rule that each leaves the version before it working."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import issuer.wiring  # noqa: F401 - it imports every module that defines a table
from issuer.database.database import SCHEMA, Database, metadata
from issuer.database.errors import DatabaseNewer
from issuer.database.migrations import config
from issuer.database.schema import VERSION_TABLE, Schema
from issuer.keyring.store import RingStore

SCRIPTS = ScriptDirectory.from_config(config())
REVISIONS = sorted(script.revision for script in SCRIPTS.walk_revisions())
pytestmark = pytest.mark.usefixtures("real_migrations")
Columns = dict[tuple[str, str], dict[str, Any]]


def columns(connection: Connection) -> Columns:
    looked = inspect(connection)
    return {
        (table, column["name"]): dict(column)
        for table in looked.get_table_names()
        for column in looked.get_columns(table)
    }


def constraints(connection: Connection, tables: set[str]) -> dict[str, list[str]]:
    """Return what may refuse a row, except the types of columns."""
    looked = inspect(connection)
    return {
        table: sorted(
            [f"unique {each['column_names']}" for each in looked.get_unique_constraints(table)]
            + [f"check {each['sqltext']}" for each in looked.get_check_constraints(table)]
            + [f"foreign {each['constrained_columns']}" for each in looked.get_foreign_keys(table)]
            + [f"unique {each['column_names']}" for each in looked.get_indexes(table) if each["unique"]]
        )
        for table in tables
    }


def test_migrations_create_exactly_the_tables_of_the_code(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []
    assert database.is_new
    assert database.schema() == Schema(SCHEMA)
    database.close()


def test_revisions_are_numbered_with_four_digits_up_to_the_one_that_the_code_names() -> None:
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS
    assert SCRIPTS.get_current_head() == SCHEMA


@pytest.mark.parametrize(("before", "after"), list(pairwise([None, *REVISIONS])))
def test_a_migration_only_adds_so_that_the_version_before_works_beside_it(
    url: str, before: str | None, after: str
) -> None:
    database = Database(url)
    if database.file:
        database.file.touch()
    with database.write() as connection:
        if before:
            command.upgrade(config(connection), before)
        old = columns(connection)
        tables = {table for table, _ in old} - {VERSION_TABLE}
        old_constraints = constraints(connection, tables)
    with database.write() as connection:
        command.upgrade(config(connection), after)
        new = columns(connection)
        assert constraints(connection, tables) == old_constraints
    database.close()
    require_only_added(old, new, tables)


def require_only_added(old: Columns, new: Columns, tables: set[str]) -> None:
    """Fail unless each column of `old` is unchanged, and each new column of these `tables` may be left out."""
    for name, column in old.items():
        assert name in new, f"{name} is gone"
        assert (str(new[name]["type"]), new[name]["nullable"]) == (str(column["type"]), column["nullable"])
    for table, added in new.keys() - old.keys():
        column = new[table, added]
        if table in tables:
            assert column["nullable"] or column["default"] is not None, f"{table}.{added} must be given"


@pytest.mark.parametrize(
    "change",
    [
        "DROP COLUMN scope",
        "RENAME COLUMN scope TO scopes",
        "ADD COLUMN wanted TEXT NOT NULL DEFAULT ''",
        "ADD COLUMN wanted TEXT",
    ],
)
def test_the_rule_for_migrations_finds_a_column_that_is_missing_or_required(url: str, change: str) -> None:
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        old = columns(connection)
        connection.execute(text(f"ALTER TABLE clients {change}"))
        new = columns(connection)
    database.close()
    if change.startswith("ADD"):
        require_only_added(old, new, {"clients"})
        new["clients", "wanted"] |= {"nullable": False, "default": None}
    with pytest.raises(AssertionError, match=r"is gone|must be given"):
        require_only_added(old, new, {"clients"})


def test_processes_that_start_together_migrate_once(url: str) -> None:
    def migrate(_number: int) -> None:
        database = Database(url)
        database.migrate()
        database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, range(6)))
    database = Database(url)
    assert RingStore(database).load() is None
    database.close()


def test_a_database_of_a_newer_version_is_refused_and_not_changed(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        connection.execute(text("UPDATE issuer_schema_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNewer, match="newer version"):
        database.migrate()
    with database.read() as connection:
        assert connection.scalar(text("SELECT version_num FROM issuer_schema_version")) == "9999"
    database.close()
