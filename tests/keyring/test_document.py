"""A key ring document that this program did not write: it is refused, and no key is destroyed or published."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update
from support.defaults import MovableClock
from support.ring_nodes import FAST

from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.errors import KeyUnavailable
from issuer.keyring.document import Unreadable, read
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, key_ring
from issuer.keyring.tombstone import Moved
from issuer.signing.algorithms import ALGORITHMS
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.public_key import JWK_MEMBERS, PublicKey
from issuer.signing.self_test import require_sound

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
    "all keys revoked": lambda document: document.update(keys=[key | REVOKED for key in document["keys"]]),
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
    "a tombstone without a database": json.dumps({"moved_to": "x", "moved_at": "y", "document": "z"}),
    "a tombstone with a line of settings": json.dumps(
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
        node._rotation.sync_private_keys,
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
def test_a_changed_ring_document_is_refused_before_it_is_used(
    node: Node, database: Database, tmp_path: Path, change: Change
) -> None:
    node.refresh()
    with database.read() as connection:
        document = json.loads(connection.scalar(text("SELECT document FROM key_ring")) or "")
    change(document)
    put(database, json.dumps(document))
    require_refused_and_nothing_destroyed(node, database, tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_that_is_not_a_ring_is_refused(
    node: Node, database: Database, tmp_path: Path, document: str
) -> None:
    node.refresh()
    put(database, document)
    require_refused_and_nothing_destroyed(node, database, tmp_path)


def test_a_ring_document_that_is_not_text_is_refused(node: Node, database: Database, tmp_path: Path) -> None:
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
def test_every_generated_key_is_accepted(alg: str, keys: Path) -> None:
    public = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests").generate(alg)
    assert public.integrity_error() is None
    assert require_sound(public)
    assert JWK_MEMBERS.keys() == ALGORITHMS.keys()


def test_a_point_that_is_not_on_its_curve_is_refused() -> None:
    from issuer.signing.public_key import thumbprint  # noqa: PLC0415

    jwk = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}
    kid = thumbprint(jwk)
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        require_sound(PublicKey(kid, "ES256", {**jwk, "use": "sig", "alg": "ES256", "kid": kid}))


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_corrupted_checkpoint_destroys_no_keys_and_is_rewritten_by_a_running_node(
    node: Node, database: Database, keys: Path, clock: MovableClock, document: str
) -> None:
    node.refresh()
    node.refresh()
    before = {name: content for name, content in everything(keys).items() if CHECKPOINT not in name}
    (keys / CHECKPOINT).write_text(document)
    clock.advance(seconds=1)
    node.refresh()
    node._rotation.change(lambda ring, now: ring.promoted(FAST, now, forced=True))
    assert read((keys / CHECKPOINT).read_text()) == RingStore(database).load()
    assert before.items() <= everything(keys).items()


def test_a_damaged_tombstone_is_not_undone(node: Node, database: Database) -> None:
    node.refresh()
    store = RingStore(database)
    store.mark_moved("postgresql://u:***@host/name", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(Moved):
        store.load()
    with database.write() as connection:
        connection.execute(
            text("UPDATE key_ring SET document = replace(document, '\"keys\\\":', '\"locks\\\":')")
        )
    with pytest.raises(DatabaseDamaged):
        store.unmark_moved()
    with pytest.raises(Moved):
        store.load()


def test_a_document_that_was_written_can_be_read(node: Node, database: Database) -> None:
    ring = node.refresh().ring
    with pytest.raises(Unreadable):
        read(b"\xff")
    assert RingStore(database).load() == ring
    assert ring.lead <= timedelta(days=3650)
