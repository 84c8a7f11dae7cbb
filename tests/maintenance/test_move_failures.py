"""Moves that are refused or fail: neither database is changed."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from support.defaults import PASSWORD, START, Build, MovableClock
from support.moves import ORIGIN, is_empty, moving, quiet, rows, settings_after
from support.postgresql import new_database

from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, DatabaseNewer, DatabaseUnavailable
from issuer.errors import KeyUnavailable, NoRing, Refused
from issuer.keyring.store import RingStore
from issuer.keyring.tombstone import Moved
from issuer.maintenance.move import undo_move
from issuer.services import Issuer
from issuer.signing.pem_directory import PemDirectory


def test_a_move_is_refused_while_a_node_runs_or_may_still_run(
    lived: Issuer, new: Database, made: Build, clock: MovableClock
) -> None:
    node = made(lived.settings).keys.node
    node.refresh()
    with pytest.raises(Refused, match=node.name) as refusal:
        moving(lived, new).perform(quiet)
    assert is_empty(new)
    assert refusal.value.allowed_from
    clock.now = refusal.value.allowed_from
    moving(lived, new).perform(quiet)


def test_a_move_is_refused_if_a_node_starts_before_the_tombstone_is_set(
    lived: Issuer, new: Database, made: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, node = lived.keys.rotation.ring(), made(lived.settings).keys.node
    mark_moved = RingStore.mark_moved

    def late(store: RingStore, to: str, now: object) -> None:
        node.refresh()
        mark_moved(store, to, START)

    monkeypatch.setattr(RingStore, "mark_moved", late)
    with pytest.raises(Refused, match=node.name):
        moving(lived, new).perform(quiet)
    assert lived.keys.rotation.ring() == ring
    assert is_empty(new)


@pytest.mark.parametrize("table", ["users", "audit", "private_keys", "key_ring"])
def test_a_failed_move_changes_neither_database(lived: Issuer, new: Database, table: str) -> None:
    before = rows(lived.database)

    def fail(_c: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            raise KeyboardInterrupt

    event.listen(new._engine, "before_cursor_execute", fail)
    with pytest.raises(KeyboardInterrupt):
        moving(lived, new).perform(quiet)
    event.remove(new._engine, "before_cursor_execute", fail)
    assert rows(lived.database) == before
    assert is_empty(new)
    moving(lived, new).perform(quiet)


def test_the_tombstone_stays_when_the_commit_fails(lived: Issuer, new: Database) -> None:
    def fail(connection: Connection) -> None:
        if connection.scalar(text("SELECT count(*) FROM users")):
            raise DatabaseUnavailable("the power went")

    move = moving(lived, new)
    new.migrate()
    event.listen(new._engine, "commit", fail)
    with pytest.raises(DatabaseUnavailable):
        move.perform(quiet)
    event.remove(new._engine, "commit", fail)
    assert is_empty(new)
    with pytest.raises(Moved, match="if the move was interrupted"):
        moving(lived, new).perform(quiet)
    undo_move(lived.database, "an operator", lived.clock())
    moving(lived, new).perform(quiet)


def test_missing_rows_are_detected(lived: Issuer, new: Database) -> None:
    def lose(
        _c: Connection, _cursor: object, statement: str, parameters: object, *_: object
    ) -> tuple[str, object]:
        return (statement.replace("INSERT INTO users", "INSERT INTO lost"), parameters)

    new.migrate()
    with new.write() as connection:
        connection.execute(text("CREATE TABLE lost AS SELECT * FROM users"))
    with lived.database.write() as connection:  # or the session would miss its user
        connection.execute(text("DELETE FROM families"))
    event.listen(new._engine, "before_cursor_execute", lose, retval=True)
    with pytest.raises(DatabaseDamaged, match="does not hold all rows"):
        moving(lived, new).perform(quiet)


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "of another passphrase"])
def test_private_keys_that_cannot_be_decrypted_are_not_moved(
    lived: Issuer, new: Database, keys: Path, lost: bool
) -> None:
    (path,) = keys.glob(f"{lived.keys.rotation.ring().current(lived.clock()).kid}.pem")
    if lost:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
    with pytest.raises(KeyUnavailable):
        moving(lived, new).perform(quiet)
    assert is_empty(new)
    assert lived.keys.rotation.ring()


class Mixed(PemDirectory):
    """Private keys of which each is found under the name of another."""

    def read(self, kid: str) -> bytes:
        return super().read(max(self.kept() - {kid}))


def test_mixed_up_private_keys_are_detected(lived: Issuer, new: Database, keys: Path) -> None:
    move = moving(lived, new)
    move._storage = Mixed(keys)
    with pytest.raises(KeyUnavailable, match="another key"):
        move.perform(quiet)
    assert is_empty(new)
    assert lived.keys.rotation.ring()


def test_a_target_that_is_not_empty_is_refused(lived: Issuer, new: Database, made: Build) -> None:
    made(settings_after(lived.settings, new)).accounts.registration.register("bob", PASSWORD, ORIGIN, START)
    with pytest.raises(Refused, match=r"it holds .*1 rows in users"):
        moving(lived, new).perform(quiet)
    assert lived.keys.rotation.ring()


def test_a_target_with_tables_of_another_program_is_refused(lived: Issuer, new: Database) -> None:
    with new.write() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
    with pytest.raises(Refused, match="it holds orders"):
        moving(lived, new).perform(quiet)


def test_a_target_of_another_version_is_refused(lived: Issuer, new: Database) -> None:
    new.migrate()
    for revision, refusal in (("0000", Refused), ("9999", DatabaseNewer)):
        set_revision(new, revision)
        with pytest.raises(refusal):
            moving(lived, new).perform(quiet)


def test_a_source_of_another_version_is_not_changed(lived: Issuer, new: Database) -> None:
    for revision, refusal in (("0000", Refused), ("9999", DatabaseNewer)):
        set_revision(lived.database, revision)
        with pytest.raises(refusal):
            moving(lived, new).perform(quiet)
        with lived.database.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM issuer_schema_version")) == revision


def set_revision(database: Database, revision: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE issuer_schema_version SET version_num = :it"), {"it": revision})


def test_a_database_is_not_moved_to_itself(lived: Issuer) -> None:
    with pytest.raises(Refused, match="already"):
        moving(lived, lived.database).perform(quiet)
    assert lived.keys.rotation.ring()


def test_a_source_without_a_key_ring_is_refused(issuer: Issuer, new: Database, tmp_path: Path) -> None:
    with pytest.raises(NoRing):
        moving(issuer, new).perform(quiet)
    missing = tmp_path / "missing.db"
    with closing(Database(f"sqlite:///{missing}")) as nothing, pytest.raises(NoRing):
        undo_move(nothing, "an operator", START)
    assert not missing.exists()


def test_a_target_that_is_not_in_utf8_is_refused(lived: Issuer, postgresql: str) -> None:
    latin = new_database(postgresql, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with closing(Database(latin)) as new, pytest.raises(DatabaseUnavailable, match="UTF8"):
        moving(lived, new).perform(quiet)
