"""Moving into another database: what arrives, what refuses it, that a failure changes nothing, and the way back.

With servers, and the lines that operators type, it is seen in `servers/test_move` and `servers/test_docs_lines`.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, event, inspect, select, text
from support.defaults import ALICE, PASSWORD, START, Build, MovableClock
from support.postgresql import new_database

from issuer.audit.chain import Action, fault
from issuer.audit.store import AuditStore
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged, DatabaseNewer, DatabaseUnavailable
from issuer.digests import named
from issuer.errors import KeyUnavailable, NoRing, NothingToDo, Refused
from issuer.keyring.store import Moved, RingStore
from issuer.maintenance.copy import ROWS_AT_ONCE, counted
from issuer.maintenance.move import Contents, Move, Place, take_back
from issuer.oauth import OAuthRequest
from issuer.settings.settings import Settings
from issuer.signing.pem_directory import PemDirectory
from issuer.throttling.limits import ACCOUNT, bucket, site
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore, devices
from issuer.wiring import Issuer, signer_for, vault_for

ORIGIN = Origin("a test", "198.18.0.1")


def quiet(_table: str, _rows: int) -> None:
    """Draw no progress."""


@pytest.fixture
def lived(issuer: Issuer, clock: MovableClock) -> Issuer:
    """An issuer with an account, a session and two rotations behind it, which has stopped at this moment."""
    clock.now = datetime.now(UTC) - timedelta(days=4)  # databases have clocks of their own
    issuer.keys.node.refresh()
    issuer.accounts.registration.register("alice", PASSWORD, ORIGIN, clock())
    issuer.tokens.pipeline.login(ALICE, ORIGIN, clock())
    for _ in range(2):
        clock.advance(days=2)
        issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now))
        issuer.keys.node.refresh()
    issuer.keys.node.leave()
    return issuer


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that is empty: a file that does not exist yet, or one of PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        url = new_database(request.getfixturevalue("postgresql"))
    with closing(Database(url)) as database:
        yield database


def moving(issuer: Issuer, new: Database) -> Move:
    settings = issuer.settings
    after = settings.model_copy(update={"keys": "database"})
    old = issuer.database
    return Move(
        Place(old, signer_for(settings, old)),
        Place(new, signer_for(after, new)),
        vault_for(settings, old),
        issuer.policy,
        issuer.clock,
        "an operator",
    )


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return all that is in a database, table by table."""
    with database.snapshot() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }


def is_empty(database: Database) -> bool:
    """Return whether a database holds nothing, perhaps not even tables."""
    if database.file and not database.file.exists():
        return True
    with database.snapshot() as connection:
        return not inspect(connection).get_table_names() or not any(counted(connection).values())


def settings_after(settings: Settings, new: Database) -> Settings:
    return settings.model_copy(
        update={
            "database_url": SecretStr(new._url.render_as_string(hide_password=False)),
            "keys": "database",
        }
    )


def test_every_row_arrives_as_it_was(lived: Issuer, new: Database) -> None:
    before = rows(lived.database)
    contents = moving(lived, new).perform(quiet)
    after = rows(new)
    entries = after.pop("audit"), after.pop("audit_head")
    assert entries[0][:-1] == before.pop("audit")
    before.pop("audit_head")
    kids = {str(kid) for kid, _pem, _kept in after.pop("private_keys")}
    assert before.pop("private_keys") == []
    assert kids == set(lived.keys.signer.kept())
    assert after == before
    assert contents == Contents(
        {**{name: len(found) for name, found in before.items()}, "audit": len(entries[0]) - 1}, 3, None
    )
    links, head = AuditStore(new).chain()
    assert fault(links, head) is None
    assert (links[-1].entry.action, links[-1].entry.reason) == (Action.MOVED, f"from {lived.database}")


def test_a_refresh_whose_answer_was_lost_before_the_move_is_repeated_after_it(
    issuer: Issuer, new: Database, made: Build, clock: MovableClock
) -> None:
    def refresh(there: Issuer, token: str) -> str:
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        return there.tokens.pipeline.grant(OAuthRequest(form), ORIGIN, clock()).refresh_token or ""

    clock.now = datetime.now(UTC)
    issuer.keys.node.refresh()
    issuer.accounts.registration.register("alice", PASSWORD, ORIGIN, clock())
    token = issuer.tokens.pipeline.login(ALICE, ORIGIN, clock()).refresh_token or ""
    successor = refresh(issuer, token)
    issuer.keys.node.leave()
    clock.advance(seconds=20)
    moving(issuer, new).perform(quiet)
    there = made(settings_after(issuer.settings, new))
    there.database.ticks = Database(there.settings.database_url.get_secret_value()).ticks  # its own
    there.keys.node.refresh()
    assert refresh(there, token) == successor
    assert refresh(there, successor) != successor


def test_the_new_database_goes_on_where_the_old_one_stopped(
    lived: Issuer, new: Database, made: Build
) -> None:
    ring = lived.keys.rotation.ring()
    moving(lived, new).perform(quiet)
    other = made(settings_after(lived.settings, new))
    assert other.keys.node.refresh().ring.keys == ring.keys
    assert other.tokens.pipeline.login(ALICE, ORIGIN, other.clock()).access_token
    other.keys.rotation.change(lambda ring, now: ring.rolled_back(other.policy, now))
    assert other.keys.node.refresh().ring.version > ring.version


def test_limits_and_known_devices_hold_in_the_new_database(lived: Issuer, new: Database) -> None:
    old, account = ThrottleStore(lived.database), bucket(ACCOUNT, "account", "alice")
    device, now = named("site", "alice", site(ORIGIN.address)), lived.clock()
    old.fail([account], now)
    moving(lived, new).perform(quiet)
    arrived = ThrottleStore(new)
    assert arrived.counts([account]) == old.counts([account]) != {}
    assert arrived.known([device], now) == old.known([device], now) != {}


def test_what_is_in_a_server_moves_to_another_and_back_into_a_file(
    lived: Issuer, postgresql: str, tmp_path: Path, made: Build
) -> None:
    ring, kids = lived.keys.rotation.ring(), lived.keys.signer.kept()
    urls = [new_database(postgresql), new_database(postgresql), f"sqlite:///{tmp_path}/back.db"]
    last = lived
    for url in urls:
        with closing(Database(url)) as new:
            moving(last, new).perform(quiet)
            last = made(settings_after(lived.settings, new))
    assert last.keys.node.refresh().ring.keys == ring.keys
    assert last.keys.signer.kept() == kids
    assert fault(*last.keys.audit.chain()) is None


def test_what_draws_the_progress_may_fail(lived: Issuer, new: Database) -> None:
    def fail(_table: str, _rows: int) -> None:
        raise OSError("the terminal has gone")

    assert moving(lived, new).perform(fail).rows["users"]


def test_more_rows_than_fit_at_once_arrive_and_are_told(lived: Issuer, new: Database) -> None:
    many = [{"device": number.to_bytes(4), "seen_at": START} for number in range(2 * ROWS_AT_ONCE + 1)]
    with lived.database.write() as connection:
        connection.execute(devices.insert(), many)
    told: list[int] = []
    contents = moving(lived, new).perform(
        lambda table, more: told.append(more) if table == "devices" else None
    )
    assert sum(told) == contents.rows["devices"] > 2 * ROWS_AT_ONCE
    assert max(told) == ROWS_AT_ONCE


def test_nothing_starts_on_what_was_moved_until_it_is_taken_back(
    lived: Issuer, new: Database, made: Build
) -> None:
    ring = lived.keys.rotation.ring()
    moving(lived, new).perform(quiet)
    for use in (
        lived.keys.rotation.ring,
        made(lived.settings).keys.node.refresh,
        lambda: lived.keys.rotation.change(lambda ring, now: ring.promoted(lived.policy, now)),
        lambda: lived.keys.recovery.recover("a reason"),
        moving(lived, new).preview,
    ):
        with pytest.raises(Moved, match="issuer move --back"):
            use()
    assert take_back(lived.database, "an operator", lived.clock()) == str(new)
    assert lived.keys.rotation.ring() == ring
    assert fault(*lived.keys.audit.chain()) is None
    made(lived.settings).keys.node.refresh()
    with pytest.raises(NothingToDo):
        take_back(lived.database, "an operator", lived.clock())


def test_who_has_read_the_ring_before_the_mark_saves_nothing_over_it(lived: Issuer, new: Database) -> None:
    ring = lived.keys.rotation.ring()
    moving(lived, new).perform(quiet)
    assert RingStore(lived.database).save(replace(ring, version=ring.version + 1)) is None


def test_a_dry_run_makes_nothing(lived: Issuer, new: Database) -> None:
    before = rows(lived.database)
    told = moving(lived, new).preview()
    assert told.rows["users"] == 1
    assert told.private_keys == 3
    assert rows(lived.database) == before
    assert not (new.file and new.file.exists())
    assert is_empty(new)
    assert moving(lived, new).perform(quiet) == told


def test_a_node_that_runs_is_named_and_one_that_was_killed_is_waited_for(
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


def test_a_node_that_starts_while_the_mark_is_set_stops_the_move(
    lived: Issuer, new: Database, made: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, node = lived.keys.rotation.ring(), made(lived.settings).keys.node
    leave = RingStore.leave

    def late(store: RingStore, to: str, now: object) -> None:
        node.refresh()
        leave(store, to, START)

    monkeypatch.setattr(RingStore, "leave", late)
    with pytest.raises(Refused, match=node.name):
        moving(lived, new).perform(quiet)
    assert lived.keys.rotation.ring() == ring
    assert is_empty(new)


@pytest.mark.parametrize("table", ["users", "audit", "private_keys", "key_ring"])
def test_a_move_that_fails_leaves_both_as_they_were(lived: Issuer, new: Database, table: str) -> None:
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


def test_whether_a_commit_that_failed_came_through_is_for_the_operator_to_see(
    lived: Issuer, new: Database
) -> None:
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
    take_back(lived.database, "an operator", lived.clock())
    moving(lived, new).perform(quiet)


def test_rows_that_do_not_arrive_are_noticed(lived: Issuer, new: Database) -> None:
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
    with pytest.raises(DatabaseDamaged, match="not all rows"):
        moving(lived, new).perform(quiet)


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "of another passphrase"])
def test_private_keys_that_do_not_open_are_not_moved(
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


def test_private_keys_that_arrive_as_others_are_noticed(lived: Issuer, new: Database, keys: Path) -> None:
    move = moving(lived, new)
    move._vault = Mixed(keys)
    with pytest.raises(KeyUnavailable, match="another key"):
        move.perform(quiet)
    assert is_empty(new)
    assert lived.keys.rotation.ring()


def test_a_database_that_holds_anything_is_refused(lived: Issuer, new: Database, made: Build) -> None:
    made(settings_after(lived.settings, new)).accounts.registration.register("bob", PASSWORD, ORIGIN, START)
    with pytest.raises(Refused, match=r"it holds .*1 rows in users"):
        moving(lived, new).perform(quiet)
    assert lived.keys.rotation.ring()


def test_a_database_of_another_program_is_no_target(lived: Issuer, new: Database) -> None:
    with new.write() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
    with pytest.raises(Refused, match="it holds orders"):
        moving(lived, new).perform(quiet)


def test_a_database_of_another_version_is_no_target(lived: Issuer, new: Database) -> None:
    new.migrate()
    for revision, refusal in (("0002", Refused), ("9999", DatabaseNewer)):
        set_revision(new, revision)
        with pytest.raises(refusal):
            moving(lived, new).perform(quiet)


def test_an_old_database_of_another_version_is_left_as_it_is(lived: Issuer, new: Database) -> None:
    for revision, refusal in (("0002", Refused), ("9999", DatabaseNewer)):
        set_revision(lived.database, revision)
        with pytest.raises(refusal):
            moving(lived, new).perform(quiet)
        with lived.database.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM issuer_schema_version")) == revision


def set_revision(database: Database, revision: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE issuer_schema_version SET version_num = :it"), {"it": revision})


def test_a_database_is_not_moved_into_itself(lived: Issuer) -> None:
    with pytest.raises(Refused, match="already"):
        moving(lived, lived.database).perform(quiet)
    assert lived.keys.rotation.ring()


def test_what_has_no_ring_is_not_moved(issuer: Issuer, new: Database, tmp_path: Path) -> None:
    with pytest.raises(NoRing):
        moving(issuer, new).perform(quiet)
    missing = tmp_path / "missing.db"
    with closing(Database(f"sqlite:///{missing}")) as nothing, pytest.raises(NoRing):
        take_back(nothing, "an operator", START)
    assert not missing.exists()


def test_a_database_that_is_not_in_utf8_is_refused(lived: Issuer, postgresql: str) -> None:
    latin = new_database(postgresql, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with closing(Database(latin)) as new, pytest.raises(DatabaseUnavailable, match="UTF8"):
        moving(lived, new).perform(quiet)


def test_an_audit_that_was_damaged_before_is_told_and_moved(lived: Issuer, new: Database) -> None:
    with lived.database.write() as connection:
        connection.execute(text("UPDATE audit_head SET digest = 'forged'"))
    told = moving(lived, new).perform(quiet).audit_fault
    assert told
    assert "entry" in told or "ends" in told


def test_keys_in_a_token_stay_there(lived: Issuer, new: Database) -> None:
    old = lived.database
    signer = signer_for(lived.settings, old)  # stands for a token: what signs before signs afterwards
    move = Move(Place(old, signer), Place(new, signer), None, lived.policy, lived.clock, "an operator")
    assert move.perform(quiet).private_keys == 0
    assert rows(new)["private_keys"] == []


def test_no_table_counts_for_itself() -> None:
    """A sequence would have to be set beyond what was copied."""
    for table in metadata.sorted_tables:
        assert table.autoincrement_column is None, table
