"""Rows with values of other types: each is reported as damaged, and does not hide the others."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import StatementError
from support.defaults import MovableClock, sound_key
from support.ring_nodes import FAST
from typer.testing import CliRunner, Result

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.chain import Action, Entry, integrity_error
from issuer.audit.store import MOST_ENTRIES, AuditStore, audit, audit_head
from issuer.cli.commands import app
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked
from issuer.errors import KeyUnavailable
from issuer.keyring.heartbeat import Acknowledgement, Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore, heartbeats
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.maintenance.copy import copy_tables
from issuer.oauth import AuthMethod
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PemDatabase, private_keys
from issuer.signing.pem_directory import PemDirectory
from issuer.throttling.limits import ACCOUNT, Bucket, bucket
from issuer.throttling.store import ThrottleStore
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, RefreshToken
from issuer.tokens.session_events import SessionEvent


@pytest.fixture
def node(database: Database, keys: Path, clock: MovableClock) -> Node:
    signer = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests")
    rotation = Rotation(RingStore(database), signer, FAST, clock, "tests")
    return Node(rotation, signer, HeartbeatStore(database), FAST, clock, "tests")


def beat(database: Database, **values: Any) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    row = {**vars(Heartbeat.of("1", "a", 1, FAST, now)), "max_age": 60, "settings": "{}", **values}
    with database.write() as connection:
        connection.execute(insert(heartbeats).values(**row))


@pytest.mark.parametrize("value", [10**15, -1])
def test_an_impossible_heartbeat_is_reported_as_damaged(database: Database, value: int) -> None:
    beat(database, max_age=value)
    with pytest.raises(DatabaseDamaged, match="DELETE FROM heartbeats"):
        HeartbeatStore(database).all()


@pytest.mark.parametrize(
    "change",
    [
        "refreshed_at = 'yesterday'",
        "signs_until = x'00'",
        "served_until = '9999-12-31 23:59:59.999999'",
        "version = 'x'",
        "version = -5",
        "max_age = 'x'",
        "name = x'ff'",
        "settings = ''",
        "settings = '[]'",
        """settings = '{"ISSUER_URL": 1}'""",
        r"""settings = '{"ISSUER_URL": "x\nissuer keys revoke"}'""",
        r"""settings = '{"ISSUER_URL": "\u001b]0;x\u0007"}'""",
        f"""settings = '{{"ISSUER_URL": "{"x" * 5000}"}}'""",
    ],
)
def test_a_heartbeat_with_values_of_other_types_is_reported_as_damaged(
    database: Database, change: str
) -> None:
    beat(database)
    with database.write() as connection:
        connection.execute(text(f"UPDATE heartbeats SET {change}"))  # noqa: S608
    with pytest.raises(DatabaseDamaged, match=r"damaged|cannot be read"):
        HeartbeatStore(database).all()


def test_a_node_works_with_a_hostile_heartbeat_in_the_database(
    node: Node, database: Database, clock: MovableClock
) -> None:
    node.refresh()
    beat(
        database, served_until=datetime(5999, 1, 1, tzinfo=UTC), signs_until=datetime(5999, 1, 1, tzinfo=UTC)
    )
    clock.advance(seconds=1)
    ring = node.refresh().ring
    Acknowledgement.of(HeartbeatStore(database).all(), ring.version, FAST, clock())


ENTRY = Entry(datetime(2026, 1, 1, tzinfo=UTC), "tests", Action.MOVED)


@pytest.mark.parametrize("number", [2**31 - 1, MOST_ENTRIES])
def test_entries_can_be_added_after_one_with_the_highest_number(database: Database, number: int) -> None:
    store = AuditStore(database)
    store.record(ENTRY)
    with database.write() as connection:
        connection.execute(insert(audit).values(number=number, digest="x", **vars(ENTRY)))
        connection.execute(update(audit_head).values(number=number))
    store.record(ENTRY)
    links, head = store.chain()
    assert [link.number for link in links] == [1, 2, number]
    assert integrity_error(links, head)


@pytest.mark.parametrize("change", ["ring_version = 'x'", "at = 'x'", "at = x'00'"])
def test_an_audit_with_values_of_other_types_is_reported_as_damaged(
    node: Node, database: Database, change: str
) -> None:
    node.refresh()
    with database.write() as connection:
        connection.execute(text("DROP TRIGGER audit_refuses_update"))
        connection.execute(text(f"UPDATE audit SET {change}"))  # noqa: S608
    read_it = node._rotation.ring if "version" in change else AuditStore(database).chain
    with pytest.raises(DatabaseDamaged, match=r"audit|instant"):
        read_it()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("users", "scope = x'ff'"),
        ("users", "created_at = 'x'"),
        ("users", "disabled_at = 'x'"),
        ("users", "username = x'00'"),
        ("clients", "audiences = 'x'"),
        ("clients", "grant_types = 'x'"),
        ("clients", "grant_types = '[\"x\"]'"),
        ("clients", "audiences = '{}'"),
        ("clients", "audiences = '[1]'"),
        ("clients", "audiences = 'null'"),
        ("clients", "auth_method = 'x'"),
        ("clients", "secret_digest = 'x'"),
        ("clients", "created_at = 3"),
    ],
)
def test_a_row_with_values_of_other_types_is_reported_as_damaged(
    database: Database, table: str, change: str
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    AccountStore(database).add(User("1", "alice", "a hash", frozenset({"a"}), now))
    ClientStore(database).add(Client("2", "machine", AuthMethod.BASIC, frozenset(), now, ("x",), b"digest"))
    with database.write() as connection:
        connection.execute(text(f"UPDATE {table} SET {change}"))  # noqa: S608
    reads: dict[str, partial[Any]] = {
        "users": partial(AccountStore(database).by_id, "1"),
        "clients": partial(ClientStore(database).by_id, "2"),
    }
    with pytest.raises(DatabaseDamaged, match="restore the backup"):
        reads[table]()


@pytest.mark.parametrize(
    "change",
    [
        "secrets SET secret = 'x'",
        "secrets SET secret = 3",
        "throttle SET failures = 'x'",
        "throttle SET since = 'x'",
        "session_events SET count = 'x'",
        "session_events SET event = x'00'",
        "refresh_tokens SET issued_tick = 'x'",
    ],
)
def test_rows_of_limits_sessions_and_secrets_with_values_of_other_types_are_reported_as_damaged(
    database: Database, change: str
) -> None:
    now, counted, token = datetime(2026, 1, 1, tzinfo=UTC), bucket(ACCOUNT, "account", "alice"), b"digest"
    family = Family("1", "2", "3", frozenset(), (), now, now)
    ThrottleStore(database).fail([counted], now)
    SessionEventStore(database).record(SessionEvent.REPEATED, family, now)
    AccountStore(database).add(User("2", "alice", "a hash", frozenset(), now))
    FamilyStore(database).start(family, RefreshToken(token, "1", now, b"seed", b"proof"))
    with database.write() as connection:
        connection.execute(text(f"UPDATE {change}"))

    def sums() -> None:
        _, damaged = SessionEventStore(database).newest(1)
        for error in damaged:
            raise error

    read_it = {
        "secrets": lambda: ThrottleStore(database).counts([counted]),
        "throttle": lambda: ThrottleStore(database).counts([counted]),
        "session_events": sums,
        "refresh_tokens": lambda: FamilyStore(database).issued(token),
    }
    with pytest.raises(DatabaseDamaged, match="restore the backup"):
        read_it[change.partition(" ")[0]]()


def test_a_private_key_of_another_type_is_reported_as_damaged(database: Database) -> None:
    kid = sound_key("a").kid
    with database.write() as connection:
        connection.execute(insert(private_keys).values(kid=kid, pem=b"x", kept=True))
        connection.execute(text("UPDATE private_keys SET pem = 'text'"))
    with pytest.raises((KeyUnavailable, StatementError), match=r"damaged|bytes"):
        PemDatabase(database).read(kid)


DAMAGE = {
    "an instant": "created_at = 'yesterday'",
    "another type": "scope = x'ff'",
    "text in another encoding": "scope = CAST(x'ff' AS TEXT)",
}


def damage(database: Database, table: str, change: str, where: str) -> None:
    with database.write() as connection:
        connection.execute(text(f"UPDATE {table} SET {change} WHERE {where}"))  # noqa: S608


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("kind", ["users", "clients"])
def test_a_list_shows_all_readable_rows_and_names_the_damaged_one(
    database: Database, kind: str, change: str
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for name in ("alice", "bob", "carol"):
        if kind == "users":
            AccountStore(database).add(User(f"id-{name}", name, "a hash", frozenset(), now))
        else:
            ClientStore(database).add(Client(f"id-{name}", name, AuthMethod.NONE, frozenset(), now))
    damage(database, kind, change, "id = 'id-bob'")
    for options in ([], ["--json"]):
        listed = command(kind, "list", *options)
        assert listed.exit_code == 1
        assert f"the row 'id-bob' of {kind} in the database is damaged: restore" in listed.output
        assert "alice" in listed.stdout
        assert "carol" in listed.stdout
    document = json.loads(listed.stdout)
    assert len(document["damaged"]) == 1
    assert "id-bob" not in json.dumps(document[kind])


def test_an_audit_with_a_damaged_entry_is_listed_and_does_not_verify(database: Database, node: Node) -> None:
    node.refresh()
    AuditStore(database).record(ENTRY)
    with database.write() as connection:
        connection.execute(text("DROP TRIGGER audit_refuses_update"))
        connection.execute(text("UPDATE audit SET at = 'x' WHERE number = 2"))
    listed, verified = command("audit", "list"), command("audit", "verify")
    assert (listed.exit_code, verified.exit_code) == (1, 1)
    for shown in (listed.output, str(verified.exception)):
        assert "the row 2 of audit in the database is damaged" in shown
    assert Action.MOVED in listed.stdout


def test_a_damaged_row_of_session_events_does_not_hide_others(database: Database) -> None:
    store, now = SessionEventStore(database), datetime(2026, 1, 1, tzinfo=UTC)
    for user in ("alice", "bob"):
        family = Family("f", user, "c", frozenset(), (), now, now)
        store.record(SessionEvent.REUSED, family, now)
    damage(database, "session_events", "first_at = 'x'", "user_id = 'bob'")
    sums, damaged = store.newest(10)
    assert [each.user_id for each in sums] == ["alice"]
    assert [str(each).startswith("the row 'bob', ") for each in damaged] == [True]
    listed = command("audit", "sessions")
    assert listed.exit_code == 1
    assert "alice" in listed.stdout


def test_a_database_with_a_damaged_row_is_not_moved(database: Database, tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    AccountStore(database).add(User("id-bob", "bob", "a hash", frozenset(), now))
    damage(database, "users", "created_at = 'x'", "id = 'id-bob'")
    target = Database(f"sqlite:///{tmp_path}/new.db")
    target.migrate()
    with (
        database.snapshot() as source,
        pytest.raises(DatabaseDamaged, match="the row 'id-bob' of users"),
        target.write() as connection,
    ):
        copy_tables(source, connection, lambda _table, _rows: None)
    target.close()


def test_a_private_key_with_a_damaged_kid_does_not_hide_others(database: Database) -> None:
    kid, store = sound_key("a").kid, PemDatabase(database)
    with database.write() as connection:
        connection.execute(insert(private_keys).values(kid=kid, pem=b"x", kept=True))
        connection.execute(text("INSERT INTO private_keys (kid, pem, kept) VALUES (x'ff', x'00', true)"))
    assert store.orphans([kid]) == ["b'\\xff'"]


@pytest.mark.parametrize(("table", "change"), [("throttle", "since = 'x'"), ("devices", "seen_at = x'00'")])
def test_the_error_names_a_damaged_count_of_failures(database: Database, table: str, change: str) -> None:
    store, now = ThrottleStore(database), datetime(2026, 1, 1, tzinfo=UTC)
    store.fail([Bucket(b"account", ACCOUNT)], now)
    store.remember({b"device": now}, b"account")
    damage(database, table, change, "true")
    with pytest.raises(DatabaseDamaged, match=f"the row [0-9a-f]{{48}} of {table}"):
        read_row(database, table)
    if table == "throttle":
        with pytest.raises(DatabaseDamaged):
            store.counts([Bucket(b"account", ACCOUNT)])


def read_row(database: Database, table: str) -> None:
    with database.read() as connection:
        row = connection.execute(select(metadata.tables[table])).one()
    checked(metadata.tables[table], row)
