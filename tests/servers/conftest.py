"""Fixtures of tests with real servers: an empty installation, and one with an existing key ring."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.probe_target import target
from support.raw_http import both, service
from support.servers import PASSPHRASE, Installation

from issuer.signing.encryption import pem_of

__all__ = ["both", "initialized", "initialized_folder", "installation", "service", "target"]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation in an empty folder."""
    folder = tmp_path / "installation"
    folder.mkdir()
    with Installation(folder) as installation:
        yield installation


@pytest.fixture(scope="session")
def initialized_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an issuer ran once; its private keys are encrypted under PASSPHRASE."""
    folder = tmp_path_factory.mktemp("initialized")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        installation.serve().until_ready().stop()
    for file in (folder / "keys").glob(
        "*.pem"
    ):  # opened by hundreds of processes, with the few rounds of tests
        key = load_pem_private_key(file.read_bytes(), PASSPHRASE.encode())
        assert isinstance(key, RSAPrivateKey)
        file.write_bytes(pem_of(key, PASSPHRASE))
    return folder


@pytest.fixture
def initialized(initialized_folder: Path, tmp_path: Path) -> Iterator[Installation]:
    """A new installation with a current and a standby key; no server runs."""
    folder = shutil.copytree(initialized_folder, tmp_path / "initialized")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as installation:
        yield installation
