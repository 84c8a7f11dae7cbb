"""The audit entry in the checkpoint: removed and replaced entries are detected.

The chain itself is tested in `audit.test_chain`, the ring in the checkpoint in `test_checkpoint`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import delete, text, update
from support import softhsm
from support.defaults import MovableClock
from support.ring_nodes import FAST

from issuer.audit.chain import EMPTY, Action, Entry, Head, chained, integrity_error
from issuer.audit.store import AuditStore, audit, audit_head
from issuer.checks import ring as ring_checks
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.errors import NothingToDo
from issuer.keyring.checkpoint import RingCheckpoint, audit_head_in
from issuer.keyring.document import read
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.recovery import Recovery
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.signing.pem import PemSigner
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.signer import Signer


class MakeSigner(Protocol):
    def __call__(self) -> Signer: ...


@pytest.fixture(params=["directory", "token"])
def signer(
    request: pytest.FixtureRequest, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeSigner]:
    """Return what opens the private keys anew, as each process does."""
    if request.param == "directory":
        yield lambda: PemSigner(PemDirectory(keys), lambda: "a passphrase for tests")
        return
    with softhsm.fresh_token(tmp_path / "softhsm", monkeypatch):
        yield softhsm.signer


@pytest.fixture
def node(database: Database, signer: MakeSigner, clock: MovableClock) -> Node:
    return node_on(database, signer(), clock)


def node_on(database: Database, ours: Signer, clock: MovableClock) -> Node:
    rotation = Rotation(RingStore(database), ours, FAST, clock, "tests")
    return Node(rotation, ours, HeartbeatStore(database), FAST, clock, "tests")


def rotation_on(database: Database, signer: MakeSigner, clock: MovableClock) -> Rotation:
    return Rotation(RingStore(database), signer(), FAST, clock, "tests")


def rotate(node: Node, clock: MovableClock) -> None:
    clock.advance(seconds=1)
    node._rotation.change(lambda ring, now: ring.promoted(FAST, now, forced=True), "a test")
    node.refresh()


def cut(database: Database, keep: int) -> None:
    """Remove the newest entries, and let the head beside the chain fit: the chain itself is whole again."""
    with database.write() as connection:
        for name in ("audit_refuses_delete", "audit_refuses_update"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
        connection.execute(delete(audit).where(audit.c.number > keep))
        last = connection.execute(
            audit.select().order_by(audit.c.number.desc()).limit(1)
        ).one_or_none() or Head(0, "")
        connection.execute(update(audit_head).values(number=last.number, digest=last.digest))
    assert integrity_error(*AuditStore(database).chain()) is None


def make_anew(database: Database) -> None:
    """Change the reason of each entry and chain them anew."""
    links, _ = AuditStore(database).chain()
    cut(database, 0)
    head = EMPTY
    store = AuditStore(database)
    for link in links:
        changed = Entry(**{**vars(link.entry), "reason": "nothing to see here"})
        store.record(changed)
        head = Head(link.number, chained(head, changed).digest)
    assert store.chain()[1] == head
    assert integrity_error(*store.chain()) is None


@pytest.mark.processes
def test_an_audit_that_only_grew_matches_the_checkpoint(
    node: Node, database: Database, signer: MakeSigner, clock: MovableClock
) -> None:
    node.refresh()
    rotate(node, clock)
    AuditStore(database).record(Entry(clock(), "tests", Action.SESSIONS_ENDED))
    assert rotation_on(database, signer, clock).checkpoint.audit_error() is None
    assert not any("audit" in warning for warning in node.warnings())


@pytest.mark.processes
@pytest.mark.parametrize("tamper", [lambda database: cut(database, 2), make_anew, lambda base: cut(base, 0)])
def test_removed_or_replaced_entries_are_detected_at_a_start_and_at_every_change(
    node: Node, database: Database, signer: MakeSigner, clock: MovableClock, tamper: object
) -> None:
    node.refresh()
    rotate(node, clock)
    assert callable(tamper)
    tamper(database)
    error = rotation_on(database, signer, clock).checkpoint.audit_error()
    assert error
    assert "the audit lacks entry" in error
    (finding,) = ring_checks.audit(AuditStore(database), rotation_on(database, signer, clock), database)
    assert finding.fix.line == "issuer keys recover --reason TEXT"
    with (
        database.write() as connection
    ):  # whoever cuts the audit need not be so kind as to leave the ring alone
        connection.execute(text("UPDATE audit SET ring_version = NULL"))
    started = node_on(database, signer(), clock)
    started.refresh()
    assert any("the audit lacks entry" in warning for warning in started.warnings())


@pytest.mark.processes
def test_the_next_rotation_does_not_hide_removed_entries(
    node: Node, database: Database, signer: MakeSigner, clock: MovableClock
) -> None:
    node.refresh()
    rotate(node, clock)
    cut(database, 2)
    for _ in range(3):
        rotate(node, clock)
    error = rotation_on(database, signer, clock).checkpoint.audit_error()
    assert error
    assert "the audit lacks entry" in error
    (checkpoint,) = signer().checkpoint_storage.read_checkpoints()
    assert read(checkpoint) == RingStore(database).load()


@pytest.mark.processes
def test_an_operator_can_accept_the_audit_and_that_is_recorded(
    node: Node, database: Database, signer: MakeSigner, clock: MovableClock
) -> None:
    node.refresh()
    rotate(node, clock)
    cut(database, 2)
    rotate(node, clock)
    ours, store = signer(), RingStore(database)
    rotation = rotation_on(database, signer, clock)
    before = store.load()
    saved = Recovery(rotation, store, ours, FAST, clock, "alice").recover("it was I")
    assert before
    assert saved.keys == before.keys
    newest = AuditStore(database).chain()[0][-1].entry
    assert (newest.action, newest.actor, newest.reason) == (Action.RECOVERED, "alice", "it was I")
    assert rotation_on(database, signer, clock).checkpoint.audit_error() is None
    clock.advance(seconds=10)
    node._signer.checkpoint_storage.write_checkpoint(
        b"", lambda _: False
    )  # a token is read every ten seconds
    node.refresh()
    assert not any("audit" in warning for warning in node.warnings())
    with pytest.raises(NothingToDo):
        Recovery(rotation, store, ours, FAST, clock, "alice").recover("again")


def test_a_checkpoint_of_an_older_version_does_not_cover_the_audit(
    keys: Path, database: Database, clock: MovableClock
) -> None:
    node = node_on(database, PemSigner(PemDirectory(keys), lambda: "a passphrase for tests"), clock)
    node.refresh()
    checkpoint = json.loads((keys / CHECKPOINT).read_text())
    del checkpoint["audit"]
    (keys / CHECKPOINT).write_text(json.dumps(checkpoint))
    cut(database, 0)
    assert node._rotation.checkpoint.audit_error() is None


def test_a_checkpoint_that_cannot_be_written_stops_no_rotation_and_is_written_later(
    keys: Path, database: Database, clock: MovableClock
) -> None:
    node = node_on(database, PemSigner(PemDirectory(keys), lambda: "a passphrase for tests"), clock)
    node.refresh()
    (keys / CHECKPOINT).unlink()
    (keys / CHECKPOINT / "in the way").mkdir(parents=True)
    before = node.view.ring.current(clock()).kid
    rotate(node, clock)
    ring = RingStore(database).load()
    assert ring
    assert ring == node.view.ring
    assert ring.current(clock()).kid != before
    assert any("could not be written" in warning for warning in node.warnings())
    assert node.view.signing_key(FAST, clock())
    assert not list(keys.glob("*.new"))
    shutil.rmtree(keys / CHECKPOINT)
    clock.advance(seconds=1)
    node.refresh()
    assert node.warnings() == []
    assert read((keys / CHECKPOINT).read_bytes()) == ring


def test_a_checkpoint_is_written_without_the_audit_while_the_audit_cannot_be_read(
    keys: Path, database: Database, clock: MovableClock
) -> None:
    ours = PemSigner(PemDirectory(keys), lambda: "a passphrase for tests")
    node = node_on(database, ours, clock)
    ring = node.refresh().ring
    (keys / CHECKPOINT).unlink()

    class Unreadable(RingStore):
        def audit_head(self) -> Head:
            raise DatabaseUnavailable("away")

    RingCheckpoint(ours.checkpoint_storage, Unreadable(database)).write(ring)
    assert read((keys / CHECKPOINT).read_bytes()) == ring


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"audit": 1}',
        b'{"audit": {"number": "1", "digest": "x"}}',
        b'{"audit": {"number": -1, "digest": "x"}}',
        b'{"audit": {"number": 1, "digest": null}}',
    ],
)
def test_an_unreadable_checkpoint_does_not_cover_the_audit(value: bytes) -> None:
    assert audit_head_in(value) is None


def test_with_keys_in_the_database_there_is_no_checkpoint(database: Database, clock: MovableClock) -> None:
    ours = PemSigner(PemDatabase(database), lambda: "a passphrase for tests")
    node = node_on(database, ours, clock)
    node.refresh()
    rotate(node, clock)
    cut(database, 1)
    assert node._rotation.checkpoint.audit_error() is None
