"""Fixtures for tests of the key ring: nodes on one database, and a database with backups."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import softhsm
from support.defaults import MovableClock
from support.postgresql import new_database
from support.restorable import Place
from support.ring_nodes import Site, signer

from issuer.database.database import Database


@pytest.fixture
def site(database: Database, keys: Path, clock: MovableClock) -> Site:
    return Site(database, keys, clock)


@pytest.fixture
def shared(postgresql: str) -> Iterator[Database]:
    """A database of many nodes."""
    database = Database(new_database(postgresql))
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def in_files(tmp_path: Path, clock: MovableClock) -> Place:
    return Place(tmp_path, clock, lambda: signer(tmp_path / "keys"))


@pytest.fixture(params=["directory", "pkcs11"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    if request.param == "directory":
        yield request.getfixturevalue("in_files")
    else:
        with softhsm.fresh_token(tmp_path / "softhsm", monkeypatch):
            yield Place(tmp_path, clock, softhsm.signer)
