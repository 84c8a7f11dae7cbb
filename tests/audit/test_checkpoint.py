"""What is noted of the audit beside the private keys, and finds entries that were cut off or made anew.

What the chain itself shows is told in `test_audit`, what the note says of the key ring in `test_restoring`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from keyring.test_rotation import FAST
from sqlalchemy import delete, text, update
from support import softhsm
from support.defaults import MovableClock

from issuer.audit.chain import EMPTY, Action, Entry, Head, chained, integrity_error
from issuer.audit.store import AuditStore, audit, audit_head
from issuer.checks import ring as ring_checks
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.errors import NothingToDo
from issuer.keyring.checkpoint import RingCheckpoint
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.recovery import Recovery
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, checkpoint_head, read
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


def test_an_audit_that_only_grew_is_as_it_was_noted(
    node: Node, database: Database, signer: MakeSigner, clock: MovableClock
) -> None:
    node.refresh()
    rotate(node, clock)
    AuditStore(database).record(Entry(clock(), "tests", Action.SESSIONS_ENDED))
    assert rotation_on(database, signer, clock).checkpoint.audit_error() is None
    assert not any("audit" in warning for warning in node.warnings())


@pytest.mark.parametrize("tamper", [lambda database: cut(database, 2), make_anew, lambda base: cut(base, 0)])
def test_entries_that_are_cut_off_or_made_anew_are_missed_at_a_start_and_whenever_the_ring_changes(
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


def test_the_next_rotation_does_not_cover_up_what_was_cut_off(
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
    (noted,) = signer().checkpoint_storage.read_checkpoints()
    assert read(noted) == RingStore(database).load()


def test_an_operator_who_found_out_why_accepts_the_audit_and_that_is_recorded(
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


def test_a_note_of_the_version_before_says_nothing_of_the_audit(
    keys: Path, database: Database, clock: MovableClock
) -> None:
    node = node_on(database, PemSigner(PemDirectory(keys), lambda: "a passphrase for tests"), clock)
    node.refresh()
    noted = json.loads((keys / CHECKPOINT).read_text())
    del noted["audit"]
    (keys / CHECKPOINT).write_text(json.dumps(noted))
    cut(database, 0)
    assert node._rotation.checkpoint.audit_error() is None


def test_a_note_that_cannot_be_written_stops_no_rotation_and_is_written_once_it_can_be(
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
    assert any("could not be noted" in warning for warning in node.warnings())
    assert node.view.signing_key(FAST, clock())
    assert not list(keys.glob("*.new"))
    shutil.rmtree(keys / CHECKPOINT)
    clock.advance(seconds=1)
    node.refresh()
    assert node.warnings() == []
    assert read((keys / CHECKPOINT).read_bytes()) == ring


def test_a_note_without_the_audit_is_better_than_none_while_the_audit_cannot_be_read(
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
def test_a_note_that_cannot_be_read_says_nothing_of_the_audit(value: bytes) -> None:
    assert checkpoint_head(value) is None


def test_with_keys_in_the_database_nothing_is_noted_elsewhere(
    database: Database, clock: MovableClock
) -> None:
    ours = PemSigner(PemDatabase(database), lambda: "a passphrase for tests")
    node = node_on(database, ours, clock)
    node.refresh()
    rotate(node, clock)
    cut(database, 1)
    assert node._rotation.checkpoint.audit_error() is None
