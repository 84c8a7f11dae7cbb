"""When `issuer serve` refuses to start: exit code 1, one line with the reason, and nothing created or changed."""

import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from support.servers import HOST, Done, Installation

from issuer.cli.terminal import KID_SHOWN


def refusal(done: Done) -> str:
    """Return the one line of a refusal."""
    assert (done.code, done.out) == (1, "")
    (line,) = (line for line in done.err.splitlines() if not line.startswith("note: "))
    assert line.startswith("failed: ")
    return line


def serve(installation: Installation, **settings: str) -> Done:
    return installation.command("serve", "--port", str(installation.port), **settings)


def test_a_taken_port_is_one_line(installation: Installation) -> None:
    with socket.create_server((HOST, installation.port)):
        line = refusal(serve(installation))
    assert f"{HOST}:{installation.port}" in line
    assert not any(installation.folder.iterdir())


def test_an_issuer_that_others_can_reach_needs_a_passphrase(installation: Installation) -> None:
    line = refusal(serve(installation, ISSUER_URL="https://issuer.example"))
    assert "ISSUER_KEYS_PASSPHRASE" in line
    assert not any(installation.folder.iterdir())


def test_timings_that_contradict_each_other_are_shown_with_their_sum(installation: Installation) -> None:
    line = refusal(serve(installation, ISSUER_PUBLISH_LEAD="5s"))
    assert "ISSUER_PUBLISH_LEAD is 5s" in line
    assert "= 32s" in line
    assert not any(installation.folder.iterdir())


def test_a_database_of_a_newer_version_is_left_alone(initialized: Installation) -> None:
    with closing(sqlite3.connect(initialized.folder / "issuer.db")) as database, database:
        database.execute("UPDATE issuer_schema_version SET version_num = '9999'")
    ring = initialized.saved_ring()
    line = refusal(serve(initialized))
    assert "newer version" in line
    assert initialized.saved_ring() == ring


def give_another_passphrase(installation: Installation) -> None:
    installation.settings["ISSUER_KEYS_PASSPHRASE"] = "seventeen noisy penguins"


def give_no_passphrase(installation: Installation) -> None:
    del installation.settings["ISSUER_KEYS_PASSPHRASE"]


def lose_a_private_key(installation: Installation) -> None:
    min(installation.keys.glob("*.pem")).unlink()


def lose_the_database(installation: Installation) -> None:
    for path in installation.folder.glob("issuer.db*"):
        path.unlink()


@pytest.mark.parametrize(
    ("mishap", "names_the_key"),
    [
        (give_another_passphrase, True),
        (give_no_passphrase, True),
        (lose_a_private_key, True),
        (lose_the_database, False),
    ],
)
def test_keys_that_cannot_be_used_are_never_replaced(
    initialized: Installation, mishap: Callable[[Installation], None], *, names_the_key: bool
) -> None:
    kids = initialized.saved_kids()
    mishap(initialized)
    ring = initialized.saved_ring()
    files = {path.name: path.read_bytes() for path in initialized.keys.iterdir()}
    line = refusal(serve(initialized))
    assert any(kid[:KID_SHOWN] in line for kid in kids) == names_the_key
    assert {path.name: path.read_bytes() for path in initialized.keys.iterdir()} == files
    assert initialized.saved_ring() == ring
