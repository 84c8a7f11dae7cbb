"""The checkpoint of the key ring beside the private keys; its audit entry is tested in `test_checkpoint_audit`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.restorable import DUE, Place
from support.ring_nodes import FAST, signer

from issuer.errors import KeyUnavailable, OlderRing
from issuer.keyring.checkpoint import DamagedCheckpoint, RingCheckpoint
from issuer.signing.pem_directory import CHECKPOINT

# The note


@pytest.mark.processes
def test_a_crash_between_save_and_checkpoint_is_completed_by_the_next_process(place: Place) -> None:
    backup = place.back_up()
    crashes = place.rotation
    place.clock.advance(**DUE)
    crashes.checkpoint.write = lambda _, **__: None  # type: ignore[method-assign]
    ring = crashes.change(lambda ring, now: ring.promoted(FAST, now))
    assert place.checkpoint().version == ring.version - 1
    assert place.start().version == ring.version
    place.restore(backup)
    with pytest.raises(OlderRing):
        place.start()


@pytest.mark.processes
def test_the_checkpoint_never_goes_back_to_an_older_ring(place: Place) -> None:
    older = place.rotation.ring()
    newer = place.rotate()
    late = RingCheckpoint(place.signer().checkpoint_storage)
    late.write(older)
    assert late.ring() == place.checkpoint() == newer


def test_the_checkpoint_is_readable_by_its_owner_only(in_files: Place) -> None:
    assert (in_files.keys / CHECKPOINT).stat().st_mode & 0o077 == 0


def test_a_directory_without_keys_gets_no_checkpoint(in_files: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    RingCheckpoint(signer(elsewhere).checkpoint_storage).write(in_files.rotation.ring())
    RingCheckpoint(signer(tmp_path / "nowhere").checkpoint_storage).write(in_files.rotation.ring())
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_checkpoint_prevents_a_start_but_not_later_refreshes(in_files: Place) -> None:
    _, node = in_files.node()
    node.refresh()
    (in_files.keys / CHECKPOINT).write_text('{"version": 1')
    with pytest.raises(DamagedCheckpoint, match="remove it"):
        in_files.start()
    in_files.clock.advance(seconds=1)
    assert node.refresh()
    ring = node._rotation.change(lambda ring, now: ring.revoked(ring.keys[1].kid, "stolen", FAST, now))
    assert in_files.start() == ring


def test_a_checkpoint_that_cannot_be_written_is_reported_and_stops_nothing(in_files: Place) -> None:
    holder, node = in_files.node()
    node.refresh()

    def full(text: bytes, replaces: Callable[[bytes], bool]) -> None:
        raise KeyUnavailable("no space left on the device")

    holder.checkpoint_storage.write_checkpoint = full  # type: ignore[method-assign]
    in_files.rotate()
    (in_files.keys / CHECKPOINT).unlink()
    in_files.clock.advance(seconds=1)
    assert node.refresh().ring.version == 2
    assert any("no space left" in warning for warning in node.warnings())
