"""What whoever writes the database can make a node do: nothing is destroyed, and one line says what is wrong.

What an honest ring leads to is told in `test_rotation` and `test_keeping`.
"""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from keyring.test_rotation import FAST
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import StatementError
from support.defaults import MovableClock, sound_key
from typer.testing import CliRunner

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.chain import Action, Entry, fault
from issuer.audit.store import MOST_ENTRIES, AuditStore, audit, audit_head
from issuer.cli.commands import app
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import require_types
from issuer.errors import KeyUnavailable
from issuer.keyring.heartbeat import Acknowledgement, Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore, heartbeats
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import Moved, RingStore, Unreadable, key_ring, read
from issuer.maintenance.copy import copy
from issuer.oauth import AuthMethod
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PrivateKeyStore, private_keys
from issuer.signing.pem_directory import NOTE, PemDirectory
from issuer.signing.public_key import JWK_MEMBERS, PublicKey
from issuer.signing.self_test import require_sound
from issuer.throttling.limits import ACCOUNT, Bucket, bucket
from issuer.throttling.store import ThrottleStore
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, RefreshToken
from issuer.tokens.session_events import SessionEvent

Document = dict[str, Any]
Change = Callable[[Document], None]

REVOKED = {"revoked_at": "2026-01-01T00:00:00Z", "revoked_reason": "x"}


@pytest.fixture
def node(database: Database, keys: Path, clock: MovableClock) -> Node:
    signer = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests")
    rotation = Rotation(RingStore(database), signer, FAST, clock, "tests")
    return Node(rotation, signer, HeartbeatStore(database), FAST, clock, "tests")


def named(kid: str) -> Change:
    """Return what gives the second key another kid, and revokes it: its private key would be destroyed."""

    def change(document: Document) -> None:
        key = document["keys"][1]
        key |= {**REVOKED, "kid": kid, "jwk": {**key["jwk"], "kid": kid}}

    return change


def setting(*path: str | int, value: Any) -> Change:
    def change(document: Document) -> None:
        place: Any = document
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


CHANGES: dict[str, Change] = {
    **{
        f"kid {kid!r}": named(kid)
        for kid in (
            "../victim",
            "/etc/ssl/victim",
            "victim",
            "",
            ".",
            "x" * 5000,
            "a" * 43,
            "a" * 42 + "\n",
            "a" * 42 + "/",
            "*",
            "\x1b[2J",
            "é" * 43,
        )
    },
    **{
        f"{'.'.join(map(str, path))} = {value!r}"[:80]: setting(*path, value=value)
        for path, value in (
            (("keys", 0, "token_lifetime"), "-P1000D"),
            (("keys", 0, "margin"), "-PT1S"),
            (("keys", 0, "lead"), "P900000000D"),
            (("lead",), "-P1D"),
            (("lead",), float("nan")),
            (("lead",), float("inf")),
            (("lead",), None),
            (("lead",), "x"),
            (("keys", 0, "activates_at"), "9999-12-31T23:59:59Z"),
            (("keys", 0, "published_at"), "9999-12-31T23:59:59+00:00"),
            (("keys", 0, "published_at"), "0001-01-01T00:00:00Z"),
            (("keys", 0, "revoked_at"), "9999-12-31T23:59:59-12:00"),
            (("keys", 0, "published_at"), 1e300),
            (("keys", 0, "published_at"), float("nan")),
            (("changed_at",), "9999-12-31T23:59:59Z"),
            (("changed_at",), "2026-01-01T00:00:00"),
            (("changed_at",), []),
            (("version",), 2**31 - 1),
            (("version",), 10**400),
            (("version",), -1),
            (("version",), 7),
            (("version",), "x"),
            (("keys",), []),
            (("keys",), {}),
            (("keys",), "x"),
            (("keys",), None),
            (("keys",), [None]),
            (("keys",), [[]]),
            (("keys", 0), 1),
            (("keys", 0, "kid"), None),
            (("keys", 0, "alg"), "none"),
            (("keys", 0, "alg"), "HS256"),
            (("keys", 0, "alg"), "RS256"),
            (("keys", 0, "jwk"), {}),
            (("keys", 0, "jwk"), []),
            (("keys", 0, "jwk", "kty"), "oct"),
            (("keys", 0, "jwk", "kty"), 5),
            (("keys", 0, "jwk", "kty"), []),
            (("keys", 0, "jwk", "d"), "the private exponent"),
            (("keys", 0, "jwk", "x5u"), "https://attacker.example"),
            (("keys", 0, "jwk", "use"), "enc"),
            (("keys", 0, "revoked_reason"), {}),
        )
    },
    "a key twice": lambda document: document["keys"].append(document["keys"][0]),
    "ten thousand keys": lambda document: document["keys"].extend(document["keys"] * 6000),
    "all keys revoked": lambda document: [key.update(REVOKED) for key in document["keys"]] and None,
}

DOCUMENTS: dict[str, Any] = {
    "nothing": "",
    "null": "null",
    "a number": "1e400",
    "a list": "[]",
    "no keys": "{}",
    "deep": "[" * 100_000,
    "deep objects": '{"keys":' * 50_000,
    "half a character": '"\\ud800"',
    "a mark to nowhere": json.dumps({"moved_to": "x", "moved_at": "y", "document": "z"}),
    "a mark with a line of settings": json.dumps(
        {
            "moved_to": "sqlite:///x.db\nISSUER_KEYS=/tmp/theirs",
            "moved_at": "2026-01-01T00:00:00Z",
            "document": "z",
        }
    ),
    "too much": " " * (17 * 1024 * 1024),
}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("issuer.db")
    }


def put(database: Database, document: object) -> None:
    with database.write() as connection:
        connection.execute(update(key_ring).values(document=document))


def require_refused_and_nothing_destroyed(node: Node, database: Database, tmp_path: Path) -> None:
    (tmp_path / "victim.pem").write_text("the key of another program")
    (tmp_path / "victim.pending").write_text("the key of another program")
    before, view = everything(tmp_path), node.view
    for act in (
        node.refresh,
        RingStore(database).load,
        node._rotation.reconcile,
        node._rotation.settle,
        lambda: node._rotation.change(lambda ring, now: ring.promoted(FAST, now, forced=True)),
        lambda: node._rotation.reconcile(starting=True),
    ):
        with pytest.raises(DatabaseDamaged, match="the key ring in the database is damaged") as refusal:
            act()
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 300
    assert everything(tmp_path) == before
    assert node.view == view


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_ring_that_this_program_did_not_write_is_refused_before_anything_is_done_by_it(
    node: Node, database: Database, tmp_path: Path, change: Change
) -> None:
    node.refresh()
    with database.read() as connection:
        document = json.loads(connection.scalar(text("SELECT document FROM key_ring")) or "")
    change(document)
    put(database, json.dumps(document))
    require_refused_and_nothing_destroyed(node, database, tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_what_is_no_ring_at_all_is_refused_likewise(
    node: Node, database: Database, tmp_path: Path, document: str
) -> None:
    node.refresh()
    put(database, document)
    require_refused_and_nothing_destroyed(node, database, tmp_path)


def test_a_ring_of_another_type_is_refused_likewise(node: Node, database: Database, tmp_path: Path) -> None:
    node.refresh()
    for value in ("x'00ff'", "7", "1e999"):
        with database.write() as connection:
            connection.execute(text(f"UPDATE key_ring SET document = {value}"))  # noqa: S608
        require_refused_and_nothing_destroyed(node, database, tmp_path)


def test_a_document_of_another_version_than_its_row_is_refused(database: Database, node: Node) -> None:
    node.refresh()
    with database.write() as connection:
        connection.execute(update(key_ring).values(version=9))
    with pytest.raises(DatabaseDamaged, match="its two versions differ"):
        RingStore(database).load()


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_key_that_this_program_makes_is_accepted(alg: str, keys: Path) -> None:
    public = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests").generate(alg)
    assert public.integrity_error() is None
    assert require_sound(public)
    assert JWK_MEMBERS.keys() == ALGORITHMS.keys()


def test_a_point_that_is_not_on_its_curve_is_refused_in_words() -> None:
    from issuer.signing.public_key import thumbprint  # noqa: PLC0415

    jwk = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}
    kid = thumbprint(jwk)
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        require_sound(PublicKey(kid, "ES256", {**jwk, "use": "sig", "alg": "ES256", "kid": kid}))


@pytest.mark.parametrize("kid", ["../victim", "victim", "/victim", "a" * 44, "", "\0" * 43])
def test_no_file_is_named_by_what_is_no_kid(keys: Path, tmp_path: Path, kid: str) -> None:
    directory = PemDirectory(keys)
    keys.mkdir(mode=0o700)
    (tmp_path / "victim.pem").write_text("the key of another program")
    (keys / "victim.pem").write_text("the key of another program")
    for act in (directory.remove, directory.read, directory.keep, lambda kid: directory.write(kid, b"x")):
        with pytest.raises(KeyUnavailable, match="is not the kid of a key"):
            act(kid)
    assert (tmp_path / "victim.pem").exists()
    assert (keys / "victim.pem").exists()


# The note beside the private keys


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_corrupted_note_destroys_nothing_and_a_running_node_writes_it_anew(
    node: Node, database: Database, keys: Path, clock: MovableClock, document: str
) -> None:
    node.refresh()
    node.refresh()
    before = {name: content for name, content in everything(keys).items() if NOTE not in name}
    (keys / NOTE).write_text(document)
    clock.advance(seconds=1)
    node.refresh()
    node._rotation.change(lambda ring, now: ring.promoted(FAST, now, forced=True))
    assert read((keys / NOTE).read_text()) == RingStore(database).load()
    assert before.items() <= everything(keys).items()


@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder"])
def test_a_note_that_is_no_file_is_told_and_not_read(node: Node, keys: Path, kind: str) -> None:
    node.refresh()
    (keys / NOTE).unlink()
    match kind:
        case "link":
            (keys / NOTE).symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(keys / NOTE)
        case "device":
            (keys / NOTE).symlink_to("/dev/full")
        case "folder":
            (keys / NOTE).mkdir()
    with pytest.raises(KeyUnavailable):
        PemDirectory(keys).noted()
    assert node.refresh()


def test_a_private_key_that_is_a_link_is_not_used_as_its_target_would_survive_its_destruction(
    node: Node, keys: Path, tmp_path: Path
) -> None:
    ring = node.refresh().ring
    path = keys / f"{ring.keys[0].kid}.pem"
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(KeyUnavailable, match="symbolic link") as refusal:
        PemDirectory(keys).read(ring.keys[0].kid)
    fixes = [error.fix for error in PemDirectory(keys).faults()]
    assert refusal.value.fix
    assert fixes == [refusal.value.fix]
    subprocess.run(["bash", "-c", refusal.value.fix.line], check=True)
    assert PemDirectory(keys).read(ring.keys[0].kid)
    assert not list(PemDirectory(keys).faults())


# Directories that other programs use


def test_a_directory_in_which_another_program_keeps_its_certificates_keeps_its_rights(keys: Path) -> None:
    keys.mkdir()
    keys.chmod(0o755)
    (keys / "server.pem").write_text("the certificate of another program")
    with pytest.raises(KeyUnavailable, match="may be read or changed by others"):
        PemDirectory(keys).write(sound_key("a").kid, b"x")
    assert keys.stat().st_mode & 0o777 == 0o755


def test_the_rights_of_other_programs_files_are_not_complained_about(keys: Path) -> None:
    keys.mkdir(mode=0o700)
    (keys / "server.pem").write_text("the certificate of another program")
    (keys / "server.pem").chmod(0o644)
    assert not list(PemDirectory(keys).faults())
    assert PemDirectory(keys).strays([]) == ["server.pem"]


# Other tables


def beat(database: Database, **values: Any) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    row = {**vars(Heartbeat.of("1", "a", 1, FAST, now)), "max_age": 60, **values}
    with database.write() as connection:
        connection.execute(insert(heartbeats).values(**row))


@pytest.mark.parametrize("value", [10**15, -1])
def test_a_heartbeat_that_no_process_sent_is_reported_as_damaged(database: Database, value: int) -> None:
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


def test_a_node_goes_on_and_revokes_beside_a_hostile_heartbeat(
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
def test_an_entry_of_the_highest_number_does_not_keep_others_from_being_added(
    database: Database, number: int
) -> None:
    store = AuditStore(database)
    store.record(ENTRY)
    with database.write() as connection:
        connection.execute(insert(audit).values(number=number, digest="x", **vars(ENTRY)))
        connection.execute(update(audit_head).values(number=number))
    store.record(ENTRY)
    links, head = store.chain()
    assert [link.number for link in links] == [1, 2, number]
    assert fault(links, head)


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
        ("clients", "audiences = '{}'"),
        ("clients", "audiences = '[1]'"),
        ("clients", "audiences = 'null'"),
        ("clients", "grant_types = 'x'"),
        ("clients", "grant_types = '[\"x\"]'"),
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
    read_it = partial(AccountStore(database).by_id, "1")
    if table == "clients":
        read_it = partial(ClientStore(database).by_id, "2")
    with pytest.raises(DatabaseDamaged, match="restore the backup"):
        read_it()


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
    FamilyStore(database).start(family, RefreshToken(token, "1", now, b"seed"))
    with database.write() as connection:
        connection.execute(text(f"UPDATE {change}"))

    def sums() -> None:
        _, damaged = SessionEventStore(database).newest(1)
        for error in damaged:
            raise error

    read_it: dict[str, Callable[[], object]] = {
        "secrets": lambda: ThrottleStore(database).counts([counted]),
        "throttle": lambda: ThrottleStore(database).counts([counted]),
        "session_events": sums,
        "refresh_tokens": lambda: FamilyStore(database).issued([token]),
    }
    with pytest.raises(DatabaseDamaged, match="restore the backup"):
        read_it[change.partition(" ")[0]]()


def test_a_private_key_of_another_type_is_reported_as_damaged(database: Database) -> None:
    kid = sound_key("a").kid
    with database.write() as connection:
        connection.execute(insert(private_keys).values(kid=kid, pem=b"x", kept=True))
        connection.execute(text("UPDATE private_keys SET pem = 'text'"))
    with pytest.raises((KeyUnavailable, StatementError), match=r"damaged|bytes"):
        PrivateKeyStore(database).read(kid)


def test_a_mark_of_a_move_leads_to_a_database_or_is_none(node: Node, database: Database) -> None:
    node.refresh()
    store = RingStore(database)
    store.leave("postgresql://u:***@host/name", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(Moved):
        store.load()
    with database.write() as connection:
        connection.execute(
            text("UPDATE key_ring SET document = replace(document, '\"keys\\\":', '\"locks\\\":')")
        )
    with pytest.raises(DatabaseDamaged):
        store.come_back()
    with pytest.raises(Moved):
        store.load()


def test_what_is_written_is_what_is_read(node: Node, database: Database) -> None:
    ring = node.refresh().ring
    with pytest.raises(Unreadable):
        read(b"\xff")
    assert RingStore(database).load() == ring
    assert ring.lead <= timedelta(days=3650)


# One damaged row among others

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
def test_a_list_shows_all_others_and_fails_with_the_id_of_the_damaged_one(
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


def test_the_audit_is_listed_without_a_damaged_entry_and_not_verified(database: Database, node: Node) -> None:
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


def test_a_damaged_sum_of_session_events_hides_no_other(database: Database) -> None:
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
        copy(source, connection, lambda _table, _rows: None)
    target.close()


def test_a_private_key_under_what_is_no_text_hides_no_other(database: Database) -> None:
    kid, store = sound_key("a").kid, PrivateKeyStore(database)
    with database.write() as connection:
        connection.execute(insert(private_keys).values(kid=kid, pem=b"x", kept=True))
        connection.execute(text("INSERT INTO private_keys (kid, pem, kept) VALUES (x'ff', x'00', true)"))
    assert store.strays([kid]) == ["b'\\xff'"]


@pytest.mark.parametrize(("table", "change"), [("throttle", "since = 'x'"), ("devices", "seen_at = x'00'")])
def test_a_damaged_count_of_failures_is_named(database: Database, table: str, change: str) -> None:
    store, now = ThrottleStore(database), datetime(2026, 1, 1, tzinfo=UTC)
    store.fail([Bucket(b"account", ACCOUNT)], now)
    store.remember({b"device": now})
    damage(database, table, change, "true")
    with pytest.raises(DatabaseDamaged, match=f"the row [0-9a-f]{{48}} of {table}"):
        read_row(database, table)
    if table == "throttle":
        with pytest.raises(DatabaseDamaged):
            store.counts([Bucket(b"account", ACCOUNT)])


def read_row(database: Database, table: str) -> None:
    with database.read() as connection:
        row = connection.execute(select(metadata.tables[table])).one()
    require_types(metadata.tables[table], row)
