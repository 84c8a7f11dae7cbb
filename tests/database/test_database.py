"""The database: snapshots, encodings, files and URLs, on SQLite and PostgreSQL."""

import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from support.postgresql import new_database
from support.stores import ENTRY

from issuer.audit.store import AuditStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_statements_in_a_snapshot_read_the_same_state(url: str, database: Database) -> None:
    AuditStore(database).record(ENTRY)
    other = Database(url)
    with database.snapshot() as connection:
        before = connection.scalar(text("SELECT count(*) FROM audit"))
        AuditStore(other).record(ENTRY)
        assert connection.scalar(text("SELECT count(*) FROM audit")) == before
    other.close()


def test_an_error_names_the_database_without_its_password() -> None:
    database = Database("postgresql://someone:secret@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as refusal:
        database.migrate()
    assert "127.0.0.1" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_an_error_for_text_that_is_not_utf_8_does_not_have_the_text(tmp_path: Path) -> None:
    """It may be an address, or a hash."""
    file = Database(f"sqlite:///{tmp_path / 'issuer.db'}")
    file.migrate()
    undecodable = text("SELECT CAST(x'616c696365ff' AS TEXT) AS email")
    with closing(file), pytest.raises(DatabaseDamaged, match=r"column 'email'$"), file.read() as connection:
        connection.execute(undecodable).all()


def test_a_password_among_the_options_of_a_url_is_not_shown() -> None:
    database = Database("postgresql://127.0.0.1:1/none?password=secret&user=someone")
    assert "secret" not in str(database)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg2", "postgres"])
def test_the_driver_in_a_url_is_ignored(driver: str) -> None:
    assert str(Database(f"{driver}://127.0.0.1/x")).startswith("postgresql://")


def test_a_database_of_another_encoding_is_refused(postgresql: str) -> None:
    latin = new_database(postgresql, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    database = Database(latin)
    with pytest.raises(DatabaseUnavailable, match="LATIN1"):
        database.migrate()
    database.close()


def test_only_the_owner_can_read_the_database_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("issuer.db*")} == {0o600}
    database.close()


def test_a_directory_in_place_of_the_database_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="database"):
        database.migrate()


def test_a_file_that_is_not_a_database_is_refused_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database " * 100)
    database = Database(f"sqlite:///{tmp_path}/file")
    with pytest.raises(DatabaseUnavailable, match="cannot be used") as refusal:
        database.migrate()
    assert "\n" not in str(refusal.value)
    database.close()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "mysql://host/name", "", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"],
)
def test_a_url_of_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="ISSUER_DATABASE_URL"):
        Database(url)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_process_stops_using_a_file_that_was_moved_or_replaced(tmp_path: Path, how: str) -> None:
    """It would not see that a key was revoked, and what it writes would be lost."""
    file, aside = tmp_path / "issuer.db", tmp_path / "aside.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.ping()
    file.rename(aside)
    if how == "replaced":
        file.write_bytes(aside.read_bytes())
    for use in (database.read, database.change, database.write, database.together):
        with pytest.raises(DatabaseUnavailable, match="moved, removed or replaced"), use():
            pass
    assert file.exists() is (how == "replaced")
    aside.replace(file)
    database.ping()
    database.close()


def test_a_database_that_was_closed_opens_the_file_that_is_there_now(tmp_path: Path) -> None:
    file, aside = tmp_path / "issuer.db", tmp_path / "aside.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.close()
    file.rename(aside)
    file.write_bytes(aside.read_bytes())
    database.ping()
    database.close()
