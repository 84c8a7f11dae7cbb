"""What the store promises, on SQLite and on a real PostgreSQL alike."""

import json
import stat
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from keyring.test_ring import POLICY, START
from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from support.defaults import sound_key
from support.postgresql import new_database

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, VerifiedPassword
from issuer.audit.chain import EMPTY, Action, Entry, fault
from issuer.audit.store import AuditStore
from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.store import ClientStore
from issuer.database.database import SCHEMA, Database, metadata
from issuer.database.errors import DatabaseDamaged, DatabaseNewer, DatabaseUnavailable, StoreError
from issuer.database.migrations import config
from issuer.database.schema import VERSION_TABLE
from issuer.digests import digest
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore, heartbeats
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore, key_ring
from issuer.maintenance.pruning import BATCH, prune
from issuer.oauth import AuthMethod, GrantType, UsernameTaken
from issuer.throttling.limits import ACCOUNT, Bucket
from issuer.throttling.store import ThrottleStore
from issuer.tokens.family_store import SESSIONS_MOST, FamilyStore, families
from issuer.tokens.refresh import Family, RefreshRotation, RefreshToken, new_refresh_token, stored, successor

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    database.migrate()
    yield database
    database.close()


def user(username: str = "alice") -> User:
    return User(str(uuid.uuid4()), username, "a hash", frozenset({"items:read", "b"}), NOW)


def family_with_token(database: Database) -> tuple[Family, str]:
    owner = user(f"user-{uuid.uuid4()}")
    AccountStore(database).add(owner)
    family = Family(
        str(uuid.uuid4()),
        owner.id,
        "first-party",
        frozenset({"a"}),
        ("x", "y"),
        NOW,
        NOW + MONTH,
        None,
        "curl",
        "::1",
    )
    token = new_refresh_token(family.id)
    assert FamilyStore(database).start(family, stored(token, family, NOW, MONTH))
    return family, token


def found(database: Database, token: str) -> tuple[RefreshToken, Family]:
    result = FamilyStore(database).find(digest(token))
    assert result is not None
    return result.token, result.family


FIRST = replace(KeyRing.found([sound_key("a"), sound_key("b")], POLICY, START), version=1)
ENTRY = Entry(NOW, "node ä", Action.PUBLISHED, "a", 1)


def after(ring: KeyRing, kid: str) -> KeyRing:
    return replace(ring.published([sound_key(kid)], POLICY, NOW), version=ring.version + 1)


def test_the_ring_comes_back_as_it_was_saved(database: Database) -> None:
    store = RingStore(database)
    assert store.load() is None
    ring = FIRST.revoked(sound_key("b").kid, "why", POLICY, NOW, compromised=True)
    assert store.save(ring) == ring
    assert store.load() == ring


def test_of_two_first_rings_one_is_too_late_and_leaves_no_entry(database: Database) -> None:
    store = RingStore(database)
    assert store.save(FIRST) is not None
    assert store.save(FIRST, [ENTRY]) is None
    assert AuditStore(database).chain() == ([], EMPTY)


def test_of_two_changes_of_one_version_one_is_too_late_and_loses_nothing(database: Database) -> None:
    store = RingStore(database)
    store.save(FIRST)
    second = after(FIRST, "c")
    assert store.save(second, [ENTRY]) == second
    assert store.save(after(FIRST, "d"), [ENTRY]) is None
    assert store.load() == second
    assert len(AuditStore(database).chain()[0]) == 1


def test_a_change_that_is_not_timely_is_neither_saved_nor_recorded(database: Database) -> None:
    store = RingStore(database)
    store.save(FIRST)
    assert store.save(after(FIRST, "c"), [ENTRY], lambda: False) is None
    assert store.load() == FIRST
    assert AuditStore(database).chain() == ([], EMPTY)


def test_many_processes_that_save_at_once_make_one_version_each(url: str, database: Database) -> None:
    RingStore(database).save(FIRST)

    def save(_number: int) -> bool:
        own = Database(url)
        try:
            return RingStore(own).save(after(FIRST, "c"), [ENTRY]) is not None
        finally:
            own.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(save, range(8))) == 1
    assert len(AuditStore(database).chain()[0]) == 1


def test_the_audit_comes_back_in_order_and_whole_however_many_write_at_once(
    url: str, database: Database
) -> None:
    entries = [replace(ENTRY, ring_version=number, reason='why "ß"\\') for number in range(12)]

    def record(entry: Entry) -> None:
        own = Database(url)
        try:
            AuditStore(own).record(entry)
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, entries))
    links, head = AuditStore(database).chain()
    assert fault(links, head) is None
    assert sorted((link.entry for link in links), key=lambda entry: entry.ring_version or 0) == entries


@pytest.mark.parametrize("change", ["UPDATE audit SET reason = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_audit(database: Database, change: str) -> None:
    AuditStore(database).record(ENTRY)
    with pytest.raises((DatabaseUnavailable, IntegrityError)), database.write() as connection:
        connection.execute(text(change))
    links, head = AuditStore(database).chain()
    assert [link.entry for link in links] == [ENTRY]
    assert fault(links, head) is None


def test_a_process_has_one_heartbeat_the_latest(database: Database) -> None:
    store = HeartbeatStore(database)
    long_ago = NOW - timedelta(days=1)
    beat = Heartbeat.of("1", "node-a/7", 3, POLICY, NOW)
    store.beat(beat, long_ago)
    store.beat(replace(beat, id="2"), long_ago)  # of the same name, perhaps in another container
    later = Heartbeat.of("1", "node-a/7", 4, POLICY, NOW + timedelta(seconds=1))
    store.beat(later, long_ago)
    assert set(store.all()) == {later, replace(beat, id="2")}
    store.beat(later, beat.served_until + timedelta(microseconds=1))
    assert store.all() == (later,)


@pytest.fixture
def shared(postgresql: str) -> Iterator[Database]:
    """A database of many nodes."""
    database = Database(new_database(postgresql))
    database.migrate()
    yield database
    database.close()


def test_nobody_waits_for_a_process_that_was_stopped_while_it_wrote_its_heartbeat(shared: Database) -> None:
    store = HeartbeatStore(shared)
    stopped = Heartbeat.of("1", "stopped", 3, POLICY, NOW)
    store.beat(stopped, NOW)
    later = stopped.served_until + timedelta(days=1)
    with shared.write() as connection:
        connection.execute(delete(heartbeats).where(heartbeats.c.id == "1"))
        store.beat(Heartbeat.of("2", "alive", 3, POLICY, later), later)
        assert {beat.name for beat in store.all()} == {"stopped", "alive"}
        assert connection.scalar(text("SELECT 1")) == 1  # it was not taken from it


def test_nobody_waits_for_long_for_another_that_saves_the_ring(shared: Database) -> None:
    store = RingStore(shared)
    store.save(FIRST)
    with shared.write() as connection:
        connection.execute(update(key_ring).values(version=7))
        assert store.save(after(FIRST, "c"), [ENTRY]) is None
        assert connection.scalar(text("SELECT 1")) == 1
        connection.rollback()
    assert store.load() == FIRST
    assert AuditStore(shared).chain() == ([], EMPTY)


def test_a_process_that_was_stopped_within_a_transaction_loses_it(shared: Database) -> None:
    RingStore(shared).save(FIRST)

    def stop() -> None:
        with shared.write() as stopped:
            stopped.execute(update(key_ring).values(version=7))
            with shared.write() as connection:  # waits for the other
                connection.execute(update(key_ring).values(version=8))

    with pytest.raises(DatabaseUnavailable):
        stop()
    with shared.read() as connection:
        assert connection.scalar(select(key_ring.c.version)) == 8


def test_a_save_that_the_database_refuses_is_told_and_not_taken_for_a_faster_process(
    database: Database,
) -> None:
    store = RingStore(database)
    store.save(FIRST)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE audit ADD COLUMN wanted TEXT"))
        connection.execute(text("DROP TABLE audit"))
        connection.execute(text("CREATE TABLE audit (number INTEGER PRIMARY KEY, wanted TEXT NOT NULL)"))
    with pytest.raises(StoreError):
        store.save(after(FIRST, "c"), [ENTRY])
    assert store.load() == FIRST


def test_a_tampered_audit_is_read_and_goes_on_and_its_fault_is_told(database: Database) -> None:
    store = AuditStore(database)
    for number in range(3):
        store.record(replace(ENTRY, ring_version=number))
    with database.write() as connection:
        connection.execute(text("UPDATE audit_head SET number = 1, digest = ''"))
    store.record(ENTRY)
    links, head = store.chain()
    assert [link.number for link in links] == [1, 2, 3, 4]
    assert "entry 4 was changed" in str(fault(links, head))
    with pytest.raises((DatabaseUnavailable, IntegrityError)), database.write() as connection:
        connection.execute(text("DELETE FROM audit_head"))


def test_a_damaged_ring_is_told_in_words(database: Database) -> None:
    RingStore(database).save(FIRST)
    for document in ("garbage", "{}", '{"version": 1}'):
        with database.write() as connection:
            connection.execute(update(key_ring).values(document=document))
        with pytest.raises(DatabaseDamaged, match="restore the backup"):
            RingStore(database).load()


def test_what_is_read_in_one_transaction_is_one_state(url: str, database: Database) -> None:
    AuditStore(database).record(ENTRY)
    other = Database(url)
    with database.snapshot() as connection:
        before = connection.scalar(text("SELECT count(*) FROM audit"))
        AuditStore(other).record(ENTRY)
        assert connection.scalar(text("SELECT count(*) FROM audit")) == before
    other.close()


def test_a_ring_of_the_first_schema_goes_on_under_the_newest(url: str) -> None:
    database = Database(url)
    if database.is_sqlite:
        Path(url.removeprefix("sqlite:///")).touch()
    with database.write() as connection:
        command.upgrade(config(connection), "0001")
        document = json.loads(TypeAdapter(KeyRing).dump_json(FIRST))
        del document["changed_at"]
        values = {"id": 1, "version": 1, "document": json.dumps(document)}
        connection.execute(insert(key_ring).values(values))
    database.migrate()
    assert RingStore(database).load() == FIRST
    assert RingStore(database).save(after(FIRST, "c"), [ENTRY]) is not None
    database.close()


def test_an_account_is_found_by_id_and_by_any_spelling_of_its_name(database: Database) -> None:
    store = AccountStore(database)
    alice = user("Älice")
    store.add(alice)
    assert store.by_id(alice.id) == alice
    assert store.by_username("äLICE") == alice
    assert store.by_username("a\u0308lice") == alice
    assert store.by_username("bob") is None
    assert store.by_id("x") is None


def test_a_name_that_reads_the_same_is_taken(database: Database) -> None:
    store = AccountStore(database)
    store.add(user("Alice"))
    for same in ("alice", "ALICE", "\uff41\uff4c\uff49\uff43\uff45"):
        with pytest.raises(UsernameTaken):
            store.add(user(same))


def test_an_account_can_be_changed(database: Database) -> None:
    store = AccountStore(database)
    alice = user()
    store.add(alice)
    FamilyStore(database).set_password_hash(alice.id, "another", NOW)
    store.set_scope(alice.id, frozenset())
    FamilyStore(database).disable(alice.id, NOW)
    changed = replace(alice, password_hash="another", scope=frozenset(), disabled_at=NOW)
    assert store.all() == ([changed], [])
    store.enable(alice.id)
    assert store.by_id(alice.id) == replace(changed, disabled_at=None)


def test_a_client_comes_back_as_it_was_kept(database: Database) -> None:
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


def test_the_built_in_client_is_there_without_being_stored(database: Database) -> None:
    assert ClientStore(database).by_id("first-party") is FIRST_PARTY
    assert ClientStore(database).all() == ([], [])


def test_a_refresh_token_is_found_with_its_family_and_is_not_itself_stored(database: Database) -> None:
    family, token = family_with_token(database)
    record, same_family = found(database, token)
    assert same_family == family
    assert record.expires_at == NOW + MONTH
    assert record.used_at is None
    with database.read() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
    assert token not in repr(rows)
    assert token.encode() not in b"".join(value for row in rows for value in row if isinstance(value, bytes))


def test_of_fifty_redemptions_at_once_one_rotates_and_there_is_one_successor(database: Database) -> None:
    store = FamilyStore(database)
    family, token = family_with_token(database)
    record, _ = found(database, token)
    next_token = stored(successor(token, record.successor_seed, family.id), family, NOW, MONTH)
    with ThreadPoolExecutor(50) as pool:
        rotated = list(pool.map(lambda _: store.rotate(RefreshRotation(record, next_token, NOW)), range(50)))
    assert rotated.count(True) == 1
    assert found(database, token)[0].used_at == NOW
    assert found(database, successor(token, record.successor_seed, family.id))[0] == next_token


def test_a_token_of_an_ended_family_does_not_rotate(database: Database) -> None:
    store = FamilyStore(database)
    family, token = family_with_token(database)
    record, _ = found(database, token)
    store.end(family.id, NOW)
    assert not store.rotate(RefreshRotation(record, stored("next", family, NOW, MONTH), NOW))
    assert found(database, token)[1].ended_at == NOW


def test_beyond_the_most_sessions_of_a_user_the_oldest_end(database: Database) -> None:
    store, accounts = FamilyStore(database), AccountStore(database)
    owner, other = user("owner"), user("other")
    for each in (owner, other):
        accounts.add(each)
    family, _ = family_with_token(database)

    def start(of: User, number: int) -> None:
        began = replace(
            family, id=str(uuid.uuid4()), user_id=of.id, created_at=NOW + timedelta(seconds=number)
        )
        assert store.start(began, stored(new_refresh_token(began.id), began, NOW, MONTH))

    start(other, 0)
    for number in range(SESSIONS_MOST + 2):
        start(owner, number)
    living = [each.created_at for each, _ in store.active(owner.id, NOW)[0]]
    assert (len(living), living[-1]) == (SESSIONS_MOST, NOW + timedelta(seconds=2))
    assert len(store.active(other.id, NOW)[0]) == 1


def test_rows_are_let_go_in_batches_and_families_with_their_last_token(database: Database) -> None:
    idle, _ = family_with_token(database)
    family = replace(idle, id=str(uuid.uuid4()), expires_at=NOW + 3 * MONTH)
    first = new_refresh_token(family.id)
    store = FamilyStore(database)
    assert store.start(family, stored(first, family, NOW, MONTH))
    token, _ = found(database, first)
    second = successor(first, token.successor_seed, family.id)
    then = NOW + MONTH - timedelta(days=1)
    assert store.rotate(RefreshRotation(token, stored(second, family, then, MONTH), then))
    buckets = [Bucket(number.to_bytes(8), ACCOUNT) for number in range(BATCH + 10)]
    ThrottleStore(database).fail(buckets, NOW)
    later = NOW + MONTH + timedelta(days=1)
    assert prune(database, later) == 3 + BATCH  # two tokens, and the family that has no other
    assert prune(database, later) == 10
    assert prune(database, later) == 0
    with database.read() as connection:
        assert list(connection.scalars(select(families.c.id))) == [family.id]
    assert found(database, second)


@pytest.mark.parametrize("change", ["password", "disable"])
def test_a_changed_password_and_a_disabled_account_end_the_families_of_that_user_only(
    database: Database, change: str
) -> None:
    store = FamilyStore(database)
    (mine, my_token), (_, other_token) = family_with_token(database), family_with_token(database)
    if change == "password":
        store.set_password_hash(mine.user_id, "another", NOW)
    else:
        store.disable(mine.user_id, NOW)
    assert found(database, my_token)[1].ended_at == NOW
    assert found(database, other_token)[1].ended_at is None


def test_a_log_in_whose_password_was_changed_meanwhile_starts_nothing_and_undoes_nothing(
    database: Database,
) -> None:
    store = FamilyStore(database)
    family, _ = family_with_token(database)
    store.set_password_hash(family.user_id, "changed", NOW)
    late = replace(family, id="late")
    assert not store.start(late, stored("late", late, NOW, MONTH), VerifiedPassword("a hash", "an upgrade"))
    user = AccountStore(database).by_id(family.user_id)
    assert user
    assert user.password_hash == "changed"
    assert store.find(digest("late")) is None


def test_a_family_starts_without_a_password_for_an_account_that_is_not_disabled(database: Database) -> None:
    store = FamilyStore(database)
    family, _ = family_with_token(database)
    store.set_password_hash(family.user_id, "changed", NOW)
    again = replace(family, id="again")
    assert store.start(again, stored("again", again, NOW, MONTH))
    store.disable(family.user_id, NOW)
    late = replace(family, id="late")
    assert not store.start(late, stored("late", late, NOW, MONTH))
    assert store.find(digest("late")) is None


def test_a_log_in_may_bring_a_better_hash_of_the_same_password(database: Database) -> None:
    family, _ = family_with_token(database)
    again = replace(family, id="again")
    password = VerifiedPassword("a hash", "a better hash")
    assert FamilyStore(database).start(again, stored("again", again, NOW, MONTH), password)
    user = AccountStore(database).by_id(family.user_id)
    assert user
    assert user.password_hash == "a better hash"


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_schema_the_code_names() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == SCHEMA


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


def test_a_database_newer_than_the_code_is_refused_and_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE issuer_schema_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNewer, match="newer version"):
        database.migrate()
    with database.read() as connection:
        assert connection.scalar(text("SELECT version_num FROM issuer_schema_version")) == "9999"


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    database = Database("postgresql://someone:secret@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as refusal:
        database.migrate()
    assert "127.0.0.1" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_password_among_the_parameters_of_an_url_is_not_shown_either() -> None:
    database = Database("postgresql://127.0.0.1:1/none?password=secret&user=someone")
    assert "secret" not in str(database)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg2", "postgres"])
def test_the_driver_is_this_programs_choice(driver: str) -> None:
    assert str(Database(f"{driver}://127.0.0.1/x")).startswith("postgresql://")


def test_a_database_of_another_encoding_is_refused(postgresql: str) -> None:
    latin = new_database(postgresql, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    database = Database(latin)
    with pytest.raises(DatabaseUnavailable, match="LATIN1"):
        database.migrate()
    database.close()


def test_the_file_of_a_database_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("issuer.db*")} == {0o600}
    database.close()


def test_a_directory_in_place_of_a_database_is_told_in_one_line(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="database"):
        database.migrate()


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
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
def test_an_url_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="ISSUER_DATABASE_URL"):
        Database(url)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_process_does_not_go_on_in_a_file_that_nobody_else_finds_any_more(tmp_path: Path, how: str) -> None:
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
