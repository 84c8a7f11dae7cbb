"""What tests of real servers may ask for: an empty installation, and one whose key ring was made before."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.probe_target import target
from support.raw_http import both, service
from support.servers import PASSPHRASE, Installation

__all__ = ["both", "founded", "founded_folder", "installation", "service", "target"]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation in an empty folder."""
    folder = tmp_path / "installation"
    folder.mkdir()
    with Installation(folder) as installation:
        yield installation


@pytest.fixture(scope="session")
def founded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an issuer ran once and stopped; its private keys are under PASSPHRASE."""
    folder = tmp_path_factory.mktemp("founded")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        installation.serve().until_ready().stop()
    return folder


@pytest.fixture
def founded(founded_folder: Path, tmp_path: Path) -> Iterator[Installation]:
    """An installation of its own, with a ring of a current and a standby key, and nothing running."""
    folder = shutil.copytree(founded_folder, tmp_path / "founded")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        yield installation
