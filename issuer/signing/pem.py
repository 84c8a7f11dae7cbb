"""Private keys as PKCS#8 PEM, encrypted under the passphrase; a vault says where the text is kept.

The directory vault is here, the one in the database is `store.private_keys`.
"""

import os
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from issuer.keyring import KeyUnavailable, PublicKey
from issuer.signing.algorithms import ALGORITHMS, PrivateKey

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_OWN_SUFFIXES = frozenset({".pem", ".pending"})
_OWN_NAMES = frozenset({"README.md", ".gitignore"})


class Vault(Protocol):
    """Where PEM text is kept, by kid."""

    def write(self, kid: str, pem: bytes) -> None:
        """Keep `pem` durably, as pending."""

    def keep(self, kid: str) -> None:
        """Make a pending text permanent."""

    def read(self, kid: str) -> bytes:
        """Return the text of `kid`, pending or kept; raise KeyUnavailable."""

    def remove(self, kid: str) -> bool:
        """Remove the text of `kid`; tell whether there was one."""

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent texts."""


class PemSigner:
    """Signs with PEM keys from a vault; loaded keys stay in memory, as opening one costs 40 ms."""

    def __init__(self, vault: Vault, passphrase: str | None) -> None:
        self._vault = vault
        self._passphrase = passphrase.encode() if passphrase else None
        self._keys: dict[str, tuple[str, PrivateKey]] = {}
        self._lock = threading.Lock()

    def generate(self, alg: str) -> PublicKey:
        """Make a private key for `alg`, pending."""
        key = ALGORITHMS[alg].generate()
        public = ALGORITHMS[alg].public_key(key)
        encryption: KeySerializationEncryption = NoEncryption()
        if self._passphrase:
            encryption = BestAvailableEncryption(self._passphrase)
        self._vault.write(public.kid, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        self._hold(public.kid, alg, key)
        return public

    def keep(self, kid: str) -> None:
        """Make a pending key permanent."""
        self._vault.keep(kid)

    def load(self, kid: str, alg: str) -> None:
        """Open `kid` and check that it is the key that its name says."""
        if kid in self._keys:
            return
        key = self._open(kid)
        algorithm = ALGORITHMS[alg]
        if not isinstance(key, algorithm.key_type) or algorithm.public_key(key).kid != kid:
            raise KeyUnavailable(f"the private key kept as {kid} is another key: it was swapped or renamed")
        self._hold(kid, alg, key)

    def sign(self, kid: str, data: bytes) -> bytes:
        """Return the JWS signature of `data`."""
        try:
            alg, key = self._keys[kid]
        except KeyError:
            raise KeyUnavailable(f"the private key {kid} is not loaded") from None
        return ALGORITHMS[alg].sign(key, data)

    def destroy(self, kid: str) -> bool:
        """Destroy the private half."""
        with self._lock:
            self._keys.pop(kid, None)
        return self._vault.remove(kid)

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent private keys."""
        return self._vault.kept()

    def unload_all_but(self, kids: Collection[str]) -> None:
        """Drop other keys from memory."""
        with self._lock:
            self._keys = {kid: key for kid, key in self._keys.items() if kid in kids}

    def _hold(self, kid: str, alg: str, key: PrivateKey) -> None:
        with self._lock:
            self._keys[kid] = (alg, key)

    def _open(self, kid: str) -> object:
        pem = self._vault.read(kid)
        try:
            return load_pem_private_key(pem, self._passphrase)
        except TypeError as error:  # a passphrase for a plain key, or none for an encrypted one
            wanting = "is not encrypted" if self._passphrase else "is encrypted"
            raise KeyUnavailable(
                f"the private key {kid} {wanting}, but ISSUER_KEYS_PASSPHRASE[_FILE] is"
                f" {'set' if self._passphrase else 'not set'}"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnavailable(
                f"the private key {kid} does not open: wrong ISSUER_KEYS_PASSPHRASE[_FILE], or a damaged file;"
                " restore it from the backup, or give the passphrase it was made under"
            ) from error


class PemDirectory:
    """PEM files `KID.pem` in one directory, 0600 in 0700; `KID.pending` until the ring names the key.

    Every method raises KeyUnavailable for what the file system refuses.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, kid: str, pem: bytes) -> None:
        """Write as pending; what a crash leaves half-written is never named by a ring."""
        with self._told():
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self._close_to_others()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(self._pending(kid), flags, FILE_MODE), "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            self._sync()

    def keep(self, kid: str) -> None:
        """Rename the pending file."""
        with self._told(), suppress(FileNotFoundError):  # another process did it, or it was kept before
            self._pending(kid).replace(self._kept(kid))
            self._sync()

    def read(self, kid: str) -> bytes:
        """Return the file's text; refuse one that others may read or write."""
        with self._told():
            # A process that stopped between saving the ring and the rename left it pending.
            for path in (self._kept(kid), self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    self._require_private(self._directory, DIRECTORY_MODE)
                    self._require_private(path, FILE_MODE)
                    return path.read_bytes()
        raise KeyUnavailable(
            f"the private key {self._kept(kid)} is missing: restore it from the backup; the issuer never"
            " makes another in its place"
        )

    def remove(self, kid: str) -> bool:
        """Unlink the file."""
        removed = False
        with self._told():
            # In this order: another process may be about to rename the one to the other.
            for path in (self._pending(kid), self._kept(kid)):
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed = True
            if removed:
                self._sync()
        return removed

    def kept(self) -> frozenset[str]:
        """Return the kids of all kept files."""
        with self._told():
            return frozenset(path.stem for path in self._entries() if path.suffix == ".pem")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyUnavailable(
                f"cannot use {self._directory} for private keys: {error.strerror}; correct ISSUER_KEYS, or"
                " the rights of the directory"
            ) from error

    def _entries(self) -> list[Path]:
        return list(self._directory.iterdir()) if self._directory.exists() else []

    def _kept(self, kid: str) -> Path:
        return self._directory / f"{kid}.pem"

    def _pending(self, kid: str) -> Path:
        return self._directory / f"{kid}.pending"

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _close_to_others(self) -> None:
        """Make the directory private, if it is for keys alone: a fresh checkout has it as 0755."""
        if all(path.suffix in _OWN_SUFFIXES or path.name in _OWN_NAMES for path in self._entries()):
            self._directory.chmod(DIRECTORY_MODE)
        self._require_private(self._directory, DIRECTORY_MODE)

    @staticmethod
    def _require_private(path: Path, mode: int) -> None:
        facts = path.stat()
        if facts.st_uid != os.geteuid():
            raise KeyUnavailable(
                f"{path} belongs to user {facts.st_uid}, not to {os.geteuid()}; run: chown {os.geteuid()} {path}"
            )
        if stat.S_IMODE(facts.st_mode) & ~mode:
            raise KeyUnavailable(
                f"{path} may be read or changed by others (mode {stat.S_IMODE(facts.st_mode):04o});"
                f" run: chmod {mode:o} {path}"
            )
