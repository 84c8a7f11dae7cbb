"""What sessions of PostgreSQL rely on, whatever the role's defaults, the URL's options or a pooler in between say.

Options of the URL are tested in `test_url`, transactions in `test_database`.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import text
from support.defaults import sound_key
from support.example_rings import POLICY
from support.pgbouncer import pooled
from support.postgresql import binaries, new_database

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.chain import Action, Entry, integrity_error
from issuer.audit.store import AuditStore
from issuer.checks import storage
from issuer.checks.finding import Severity
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore
from issuer.signing.pem_database import PemDatabase

NOW = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC)
PEM = bytes(range(256)) + b"\\x00\\'"


@pytest.fixture
def url(postgresql: str) -> str:
    return new_database(postgresql)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def set_defaults(url: str, **settings: str) -> None:
    """Set what each session of this database begins with, as ALTER ROLE does for each session of a role."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")  # an earlier default may forbid it
        for name, value in settings.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = {value}")  # type: ignore[arg-type]


def shown(database: Database, *names: str) -> list[str]:
    with database.read() as connection:
        return [str(connection.scalar(text(f"SHOW {name}"))) for name in names]


def lives(database: Database) -> None:
    """Use every kind of column and transaction, and fail unless all comes back as it was."""
    database.migrate()
    ring = KeyRing.create([sound_key("a"), sound_key("b")], POLICY, NOW)
    store = RingStore(database)
    saved = store.save(ring.promoted(POLICY, NOW, forced=True).__class__(1, NOW, ring.keys, ring.lead))
    assert store.load() == saved
    AuditStore(database).record(Entry(NOW, 'ä "\\', Action.MOVED, reason="it's \\n"))
    links, head = AuditStore(database).chain()
    assert integrity_error(links, head) is None
    assert links[0].entry.at == NOW
    user = User("1", "Älice\\", "hash'\\", frozenset({"a"}), NOW, NOW + timedelta(microseconds=1))
    AccountStore(database).add(user)
    assert AccountStore(database).by_id("1") == user
    keys = PemDatabase(database)
    keys.write("a" * 43, PEM)
    assert keys.read("a" * 43) == PEM
    beat = Heartbeat.of("1", "node", 1, POLICY, NOW)
    HeartbeatStore(database).beat(beat, NOW)
    assert HeartbeatStore(database).all() == (beat,)
    clock = database.clock()
    assert clock
    assert abs(clock - datetime.now(UTC)) < timedelta(minutes=1)


DEFAULTS = {
    "datestyle": "'SQL, DMY'",
    "datestyle ": "'German, DMY'",
    "timezone": "'Asia/Kathmandu'",
    "timezone ": "'<+03>-3'",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_deferrable": "on",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "client_encoding": "'latin1'",
    "bytea_output": "'escape'",
    "intervalstyle": "'iso_8601'",
    "extra_float_digits": "-15",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "backslash_quote": "off",
    "transform_null_equals": "on",
    "enable_seqscan": "off",
    "jit_above_cost": "0",
    "plan_cache_mode": "'force_generic_plan'",
    "array_nulls": "off",
    "lc_messages": "'C'",
    "search_path": "issuer, public",
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_the_defaults_of_a_role_change_nothing(url: str, name: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA issuer")
    set_defaults(url, **{name.strip(): value})
    database = Database(url)
    lives(database)
    database.close()


def test_all_of_them_at_once_change_nothing(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA issuer")
    set_defaults(url, **{name.strip(): value for name, value in DEFAULTS.items()})
    database = Database(url)
    lives(database)
    database.close()


def test_a_role_that_may_only_read_is_reported_in_one_line(url: str) -> None:
    set_defaults(url, default_transaction_read_only="on")
    database = Database(url)
    with pytest.raises(DatabaseUnavailable, match="read-only transaction") as refusal:
        database.migrate()
    assert "\n" not in str(refusal.value)
    database.close()


def test_connections_to_a_server_that_became_a_standby_are_replaced_once_there_is_a_primary(url: str) -> None:
    """As at a switch-over behind one name: such a server answers reads, and refuses changes, for ever."""
    prepared = Database(url)
    prepared.migrate()
    prepared.close()
    set_defaults(url, default_transaction_read_only="on")
    database = Database(url)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: shown(database, "transaction_read_only"), range(4)))
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        PemDatabase(database).write("a" * 43, PEM)
    with pytest.raises(DatabaseUnavailable, match="the server is read-only"):
        database.ping()
    set_defaults(url, default_transaction_read_only="off")
    for _ in range(2):  # what refused, and whatever was opened before it
        database.ping()
        PemDatabase(database).write("a" * 43, PEM)
    database.close()


@pytest.mark.parametrize(
    ("default", "expected"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_commits_are_durable_under_any_defaults_of_the_role(url: str, default: str, expected: str) -> None:
    set_defaults(url, synchronous_commit=default)
    database = Database(url)
    assert shown(database, "synchronous_commit") == [expected]
    database.close()


def test_a_probe_alone_replaces_a_connection_to_a_standby(url: str) -> None:
    set_defaults(url, default_transaction_read_only="on")
    database = Database(url)
    assert shown(database, "transaction_read_only") == ["on"]
    with pytest.raises(DatabaseUnavailable, match="the server is read-only"):
        database.ping()
    set_defaults(url, default_transaction_read_only="off")
    database.ping()
    database.close()


@pytest.mark.parametrize(
    ("name", "value"), [("PGDATESTYLE", "German"), ("PGTZ", "Asia/Kathmandu"), ("PGCLIENTENCODING", "LATIN1")]
)
def test_variables_of_libpq_change_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    database = Database(url)
    lives(database)
    database.close()


# Options of the URL


def test_options_of_the_url_are_added_to_the_limits_and_may_change_them(url: str) -> None:
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "search_path", "datestyle")
    for options, expected in (
        ("-csearch_path%3Dissuer,public", ["10s", "2s", "issuer,public", "ISO, MDY"]),
        ("-c%20statement_timeout%3D30s", ["30s", "2s", '"$user", public', "ISO, MDY"]),
        ("-c%20datestyle%3DGerman", ["10s", "2s", '"$user", public', "ISO, DMY"]),
    ):
        database = Database(f"{url}?options={options}")
        assert shown(database, *names) == expected
        database.close()


def test_options_of_the_environment_are_added_likewise(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=issuer,public")
    database = Database(url)
    assert shown(database, "statement_timeout", "search_path") == ["10s", "issuer,public"]
    database.close()


@pytest.mark.parametrize(("value", "expected"), [("0", None), ("none", None), ("1", 1), ("7", 7)])
def test_prepared_statements_are_the_urls_choice(url: str, value: str, expected: int | None) -> None:
    database = Database(f"{url}?prepare_threshold={value}")
    with database.read() as connection:
        assert connection.connection.dbapi_connection.prepare_threshold == expected  # type: ignore[union-attr]
        for _ in range(10):
            connection.execute(text("SELECT 1"))
        prepared = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
    assert bool(prepared) is (expected is not None)
    database.close()


def test_the_folder_of_a_socket_is_written_as_libpq_writes_it(url: str, tmp_path: Path) -> None:
    folder = str(tmp_path).replace("/", "%2F")
    database = Database(f"postgresql://issuer@{folder}/name")
    with pytest.raises(DatabaseUnavailable, match=f'connection to server on socket "{tmp_path}'):
        database.ping()


# Behind PgBouncer


def work(url: str, number: int) -> bool:
    """Do what requests do, on a connection of its own: many different statements, again and again."""
    database = Database(url)
    accounts, beats = AccountStore(database), HeartbeatStore(database)
    for again in range(12):
        user = User(f"{number}-{again}", f"user {number} {again}", "hash", frozenset({"a"}), NOW)
        accounts.add(user)
        assert accounts.by_id(user.id) == user
        assert accounts.by_username(user.username) == user
        beats.beat(Heartbeat.of(str(number), "node", again, POLICY, NOW), NOW - timedelta(days=1))
        assert number in {int(beat.id) for beat in beats.all()}
        AuditStore(database).record(Entry(NOW, "node", Action.MOVED))
    database.close()
    return True


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_behind_a_pooler_every_statement_is_the_one_that_was_meant(url: str, mode: str) -> None:
    with pooled(url, pool_mode=mode, ignore_startup_parameters="options", default_pool_size="8") as through:
        database = Database(through)
        database.migrate()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda number: work(through, number), range(8)))
        assert integrity_error(*AuditStore(database).chain()) is None
        with database.read() as connection:
            assert connection.connection.dbapi_connection.prepare_threshold is None  # type: ignore[union-attr]
        database.close()


def test_defaults_of_the_role_change_nothing_behind_a_pooler_either(url: str) -> None:
    set_defaults(url, datestyle="'SQL, DMY'", timezone="'Asia/Kathmandu'", bytea_output="'escape'")
    with pooled(url, ignore_startup_parameters="options") as through:
        database = Database(through)
        lives(database)
        database.close()


def test_a_pooler_that_refuses_the_options_is_reported_with_the_setting_that_it_needs(url: str) -> None:
    with pooled(url) as through:
        database = Database(through)
        with pytest.raises(DatabaseUnavailable, match="ignore_startup_parameters = options"):
            database.migrate()
        database.close()


def test_time_limits_that_a_pooler_drops_are_missed_until_the_printed_line_sets_them(url: str) -> None:
    role = f"role {uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN SUPERUSER')  # type: ignore[arg-type]
    through_all = {"ignore_startup_parameters": "options", "server_check_delay": "0"}
    with pooled(url, f"'{role}'", **through_all) as through:
        database = Database(through.replace(f"'{role}'", quote(role)))
        database.migrate()
        (finding,) = storage.pooler(database)
        database.close()
        assert finding.severity is Severity.WARNING
        environment = {**os.environ, "PATH": f"{binaries()}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", finding.fix.line], check=True, env=environment, capture_output=True)
    with pooled(url, f"'{role}'", **through_all) as through:
        database = Database(through.replace(f"'{role}'", quote(role)))
        assert list(storage.pooler(database)) == []
        assert shown(database, "statement_timeout") == ["10s"]
        database.close()


def test_without_a_pooler_statements_are_prepared_and_nothing_is_missed(database: Database) -> None:
    assert database.pooler() is None
    assert list(storage.pooler(database)) == []
    with database.read() as connection:
        assert connection.connection.dbapi_connection.prepare_threshold == 5  # type: ignore[union-attr]


def test_prepared_statements_can_be_enabled_behind_a_pooler_that_supports_them(url: str) -> None:
    with pooled(url, pool_mode="session", ignore_startup_parameters="options") as through:
        database = Database(f"{through}?prepare_threshold=3")
        with database.read() as connection:
            assert connection.connection.dbapi_connection.prepare_threshold == 3  # type: ignore[union-attr]
        database.close()


def test_a_table_that_is_changed_while_statements_of_it_are_prepared_costs_one_answer(
    database: Database, url: str
) -> None:
    """As by a migration of a newer version, or manually: psycopg continues to use what it has prepared."""
    lives(database)
    store = AccountStore(database)
    for _ in range(8):  # the driver prepares what it has executed five times
        assert store.by_id("1")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("ALTER TABLE users ALTER COLUMN username TYPE varchar(300)")
    with pytest.raises(DatabaseUnavailable, match="cached plan"):
        store.by_id("1")
    for _ in range(8):
        assert store.by_id("1")


def test_a_database_that_may_be_written_to_again_is_without_a_restart(database: Database, url: str) -> None:
    lives(database)
    set_defaults(url, default_transaction_read_only="on")
    database._engine.dispose()
    store = AuditStore(database)
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        store.record(Entry(NOW, "a", Action.MOVED))
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        database.ping()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SET default_transaction_read_only = off")
        other.execute(f"ALTER DATABASE {other.info.dbname} RESET default_transaction_read_only")  # type: ignore[arg-type]
    store.record(Entry(NOW, "a", Action.MOVED))
