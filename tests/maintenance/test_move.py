"""Moves to another database: what is copied, and how to go back; `servers/test_move` runs the command."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from support.defaults import ALICE, PASSWORD, START, Build, MovableClock
from support.moves import ORIGIN, is_empty, moving, quiet, rows, settings_after
from support.postgresql import new_database

from issuer.audit.chain import Action, integrity_error
from issuer.audit.event import Event, EventAction
from issuer.audit.events import EventStore, account_events
from issuer.audit.store import AuditStore
from issuer.database.database import Database, metadata
from issuer.digests import named
from issuer.errors import NothingToDo
from issuer.keyring.store import RingStore
from issuer.keyring.tombstone import Moved
from issuer.maintenance.copy import BATCH_ROWS
from issuer.maintenance.move import Contents, Move, Place, undo_move
from issuer.oauth import OAuthRequest
from issuer.services import Issuer
from issuer.signers import signer_for
from issuer.throttling.limits import ACCOUNT, bucket, subnet
from issuer.throttling.store import ThrottleStore, devices


def test_every_row_is_copied_unchanged(lived: Issuer, new: Database) -> None:
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
    assert integrity_error(links, head) is None
    assert (links[-1].entry.action, links[-1].entry.reason) == (Action.MOVED, f"from {lived.database}")


def test_a_lost_refresh_response_can_be_repeated_after_the_move(
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
    there.database.shared_clock = Database(
        there.settings.database_url.get_secret_value()
    ).shared_clock  # its own
    there.keys.node.refresh()
    assert refresh(there, token) == successor
    assert refresh(there, successor) != successor


def test_the_issuer_continues_on_the_new_database(lived: Issuer, new: Database, made: Build) -> None:
    ring = lived.keys.rotation.ring()
    moving(lived, new).perform(quiet)
    other = made(settings_after(lived.settings, new))
    assert other.keys.node.refresh().ring.keys == ring.keys
    assert other.tokens.pipeline.login(ALICE, ORIGIN, other.clock()).access_token
    other.keys.rotation.change(lambda ring, now: ring.rolled_back(other.policy, now))
    assert other.keys.node.refresh().ring.version > ring.version


def test_failure_counts_and_known_devices_are_copied(lived: Issuer, new: Database) -> None:
    old, account = ThrottleStore(lived.database), bucket(ACCOUNT, "account", "alice")
    device, now = named("subnet", "alice", subnet(ORIGIN.address)), lived.clock()
    old.fail([account], now)
    moving(lived, new).perform(quiet)
    arrived = ThrottleStore(new)
    assert arrived.counts([account]) == old.counts([account]) != {}
    assert arrived.known([device], now) == old.known([device], now) != {}


def test_a_move_works_between_servers_and_back_to_a_file(
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
    assert integrity_error(*last.keys.audit.chain()) is None


def test_an_error_of_the_progress_callback_is_ignored(lived: Issuer, new: Database) -> None:
    def fail(_table: str, _rows: int) -> None:
        raise OSError("the terminal has gone")

    assert moving(lived, new).perform(fail).rows["users"]


def test_more_rows_than_a_batch_are_copied_and_reported(lived: Issuer, new: Database) -> None:
    others = {"account": b"an account", "is_network": False, "seen_at": START}
    many = [{**others, "device": number.to_bytes(4)} for number in range(2 * BATCH_ROWS + 1)]
    with lived.database.write() as connection:
        connection.execute(devices.insert(), many)
    sizes: list[int] = []
    contents = moving(lived, new).perform(
        lambda table, more: sizes.append(more) if table == "devices" else None
    )
    assert sum(sizes) == contents.rows["devices"] > 2 * BATCH_ROWS
    assert max(sizes) == BATCH_ROWS


def test_the_old_database_is_refused_until_the_move_is_undone(
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
    assert undo_move(lived.database, "an operator", lived.clock()) == str(new)
    assert lived.keys.rotation.ring() == ring
    assert integrity_error(*lived.keys.audit.chain()) is None
    made(lived.settings).keys.node.refresh()
    with pytest.raises(NothingToDo):
        undo_move(lived.database, "an operator", lived.clock())


def test_a_ring_loaded_before_the_move_cannot_be_saved_over_the_tombstone(
    lived: Issuer, new: Database
) -> None:
    ring = lived.keys.rotation.ring()
    moving(lived, new).perform(quiet)
    assert RingStore(lived.database).save(replace(ring, version=ring.version + 1)) is None


def test_a_preview_changes_nothing(lived: Issuer, new: Database) -> None:
    before = rows(lived.database)
    previewed = moving(lived, new).preview()
    assert previewed.rows["users"] == 1
    assert previewed.private_keys == 3
    assert rows(lived.database) == before
    assert not (new.file and new.file.exists())
    assert is_empty(new)
    assert moving(lived, new).perform(quiet) == previewed


def test_an_audit_that_was_damaged_before_is_reported_and_copied(lived: Issuer, new: Database) -> None:
    with lived.database.write() as connection:
        connection.execute(text("UPDATE audit_head SET digest = 'forged'"))
    fault = moving(lived, new).perform(quiet).audit_fault
    assert fault
    assert "entry" in fault or "ends" in fault


def test_private_keys_in_a_pkcs11_token_are_not_copied(lived: Issuer, new: Database) -> None:
    old = lived.database
    signer = signer_for(lived.settings, old)  # stands for a token: what signs before signs afterwards
    move = Move(Place(old, signer), Place(new, signer), None, lived.policy, lived.clock, "an operator")
    assert move.perform(quiet).private_keys == 0
    assert rows(new)["private_keys"] == []


def test_numbers_of_events_go_on_after_those_that_were_moved(lived: Issuer, new: Database) -> None:
    moving(lived, new).perform(quiet)
    moved = [number for number, *_ in rows(new)["account_events"]]
    assert moved
    EventStore(new).record(Event(lived.clock(), "an operator", EventAction.CLIENT_DELETED, None, "app"))
    after = [number for number, *_ in rows(new)["account_events"]]
    assert after[: len(moved)] == moved
    assert int(str(after[-1])) > max(int(str(number)) for number in moved)


def test_no_other_table_has_an_autoincrement_column() -> None:
    """A sequence has to be set beyond what was copied."""
    for table in metadata.sorted_tables:
        assert table.autoincrement_column is None or table is account_events, table
