"""Databases that another program uses: only tables of this program are used or migrated."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect, text
from support.postgresql import new_database

from issuer.checks import storage
from issuer.database.database import SCHEMA, Database
from issuer.database.errors import DatabaseDamaged, DatabaseForeign, DatabaseNewer, DatabaseUnavailable
from issuer.database.schema import Schema
from issuer.keyring.store import RingStore

ALEMBIC = "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"
THEIRS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"


def with_revisions(*revisions: str) -> list[str]:
    return [ALEMBIC, *(f"INSERT INTO alembic_version VALUES ('{each}')" for each in revisions)]  # noqa: S608


FOREIGN = {
    **{
        f"revision {revision}": [*with_revisions(revision), THEIRS]
        for revision in ("a1b2c3d4e5f6", "0001", "0003", "9999", "0002f8a1c3d4")
    },
    "no revision yet": [ALEMBIC, "CREATE TABLE posts (id INTEGER)"],
    "alembic's table alone": with_revisions("0003"),
    "several revisions": [*with_revisions("0002", "0003"), THEIRS],
    "another shape": ["CREATE TABLE alembic_version (version_num TEXT, program TEXT)", THEIRS],
    "a view": [
        "CREATE TABLE versions (version_num TEXT)",
        "CREATE VIEW alembic_version AS SELECT version_num FROM versions",
    ],
    "another case": [
        'CREATE TABLE "Alembic_Version" (version_num TEXT)',
        'CREATE TABLE "Users" (id INTEGER)',
    ],
    "no alembic": [THEIRS],
    "names that we do not have": ["CREATE TABLE posts (id INTEGER)"],
    "all our names": [
        *with_revisions("0003"),
        *(f"CREATE TABLE {name} (id INTEGER)" for name in ("users", "clients", "families", "key_ring")),
    ],
    "our version table by another": ["CREATE TABLE issuer_schema_version (version_num TEXT)", THEIRS],
    "our version table with another's mark": [
        "CREATE TABLE issuer_schema_version (version_num TEXT, program TEXT)",
        "INSERT INTO issuer_schema_version VALUES ('0003', 'orders')",
    ],
}


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An empty one."""
    database = Database(url)
    yield database
    database.close()


def perform(database: Database, statements: list[str]) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def tables(database: Database) -> dict[str, list[str]]:
    with database.read() as connection:
        looked = inspect(connection)
        return {
            name: [column["name"] for column in looked.get_columns(name)] for name in looked.get_table_names()
        }


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN.keys())
def test_the_database_of_another_program_is_refused_and_not_changed(
    database: Database, statements: list[str]
) -> None:
    perform(database, statements)
    before = tables(database)
    content = database.file.read_bytes() if database.file else None
    with pytest.raises(DatabaseForeign, match="nothing was changed; give the issuer a database") as refusal:
        database.migrate()
    assert "newer version" not in str(refusal.value)
    assert tables(database) == before
    assert content is None or (database.file and database.file.read_bytes() == content)


def test_check_suggests_another_database(database: Database, tmp_path: Path) -> None:
    perform(database, FOREIGN["revision 9999"])
    (finding,) = storage.foreign(database)
    assert finding.fix.line in {
        f"ISSUER_DATABASE_URL=sqlite:///{tmp_path}/jwks-issuer.db",
        "ISSUER_DATABASE_URL=postgresql://USER@HOST/NEW_DATABASE",
    }


def test_permissions_and_journal_of_another_programs_file_are_not_changed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    perform(database, [THEIRS])
    (tmp_path / "issuer.db").chmod(0o644)
    with pytest.raises(DatabaseForeign):
        database.migrate()
    database.close()
    assert (tmp_path / "issuer.db").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["issuer.db"]


def test_inspecting_a_missing_database_does_not_create_it(tmp_path: Path) -> None:
    assert Database(f"sqlite:///{tmp_path}/issuer.db").schema() == Schema()
    assert not list(tmp_path.iterdir())


def test_alembics_default_version_table_is_not_created(database: Database) -> None:
    database.migrate()
    assert "alembic_version" not in tables(database)
    assert database.schema() == Schema(SCHEMA)


def test_tables_of_another_program_that_are_added_later_are_ignored(database: Database) -> None:
    database.migrate()
    perform(database, [*with_revisions("a1b2c3d4e5f6"), "CREATE TABLE posts (id INTEGER)"])
    database.migrate()
    assert database.is_current()
    assert RingStore(database).load() is None


def test_missing_tables_are_reported_and_not_created(database: Database) -> None:
    database.migrate()
    perform(database, ["DROP TABLE heartbeats"])
    with pytest.raises(DatabaseDamaged, match="the tables heartbeats are missing"):
        database.migrate()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM issuer_schema_version",
        "INSERT INTO issuer_schema_version (version_num) VALUES ('0009')",
        "UPDATE issuer_schema_version SET version_num = 'x; y'",
    ],
)
def test_an_invalid_revision_is_reported_as_damage(database: Database, change: str) -> None:
    database.migrate()
    perform(database, [change])
    with pytest.raises(DatabaseDamaged, match="does not hold one revision"):
        database.migrate()


def test_a_newer_schema_is_not_reported_as_another_program(database: Database) -> None:
    database.migrate()
    perform(database, ["UPDATE issuer_schema_version SET version_num = '9999'"])
    with pytest.raises(DatabaseNewer, match="newer version of this program"):
        database.migrate()


# Schemas of PostgreSQL


@pytest.fixture
def shared(postgresql: str) -> Iterator[tuple[str, psycopg.Connection]]:
    """A database whose schema public another program uses; its URL, and a connection."""
    url = new_database(postgresql)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FOREIGN["revision 0003"]:
            connection.execute(statement)
        yield url, connection


def test_a_separate_postgresql_schema_beside_another_program_is_accepted(
    shared: tuple[str, psycopg.Connection],
) -> None:
    url, connection = shared
    connection.execute("CREATE SCHEMA issuer")
    database = Database(f"{url}?options=-csearch_path%3Dissuer,public")
    database.migrate()
    assert RingStore(database).load() is None
    database.close()
    made = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'issuer'").fetchone()
    theirs = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert made
    assert made[0] > 10
    assert theirs == (2,)


def test_a_search_path_that_hides_the_tables_is_refused(
    postgresql: str,
) -> None:
    url = new_database(postgresql)
    database = Database(url)
    database.migrate()
    database.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA issuer")  # the name of the role: "$user" comes first
    database = Database(url)
    with pytest.raises(
        DatabaseUnavailable, match="in the schema public, but new ones would be created in issuer"
    ):
        database.migrate()
    database.close()


def test_a_search_path_without_a_schema_is_refused(postgresql: str) -> None:
    database = Database(f"{new_database(postgresql)}?options=-csearch_path%3Dnowhere")
    with pytest.raises(DatabaseUnavailable, match=r"no schema of the search_path \(nowhere\) exists"):
        database.migrate()
    database.close()


def test_tables_of_extensions_are_ignored(postgresql: str) -> None:
    url = new_database(postgresql)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE spatial_ref_sys (srid INTEGER)")
        connection.execute("ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys")
    database = Database(url)
    database.migrate()
    assert database.is_current()
    database.close()
