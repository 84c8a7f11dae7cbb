"""Private keys as PKCS#8 PEM, encrypted under the passphrase: opened, cached and used to sign.

Where the PEM text is stored is left to `pem_directory` and `pem_database`.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from issuer.errors import KeyUnavailable, WrongPassphrase
from issuer.fixes import Fix, Kind
from issuer.signing.algorithms import ALGORITHMS, PrivateKey
from issuer.signing.encryption import is_current, is_encrypted, is_whole, pem_of
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import CheckpointStorage

ENCRYPT_ANEW = "issuer keys rewrap --same-passphrase"


class PemStorage(CheckpointStorage, Protocol):
    """Stores PEM text by kid."""

    def write(self, kid: str, pem: bytes) -> None:
        """Store `pem` durably, as pending; replace an earlier pending text."""

    def rewrite(self, kid: str, pem: bytes) -> None:
        """Replace the text of `kid`, durably and atomically."""

    def keep(self, kid: str) -> None:
        """Make a pending text permanent."""

    def read(self, kid: str) -> bytes:
        """Return the text of `kid`, pending or permanent; raise KeyUnavailable."""

    def remove(self, kid: str) -> bool:
        """Remove the text of `kid`; return whether there was one."""

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent texts."""

    def pending(self) -> frozenset[str]:
        """Return the kids of all pending texts."""

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of everything in the storage that belongs to none of `kids`."""


class PemSigner:
    """Signs with PEM keys of a storage. Opened keys stay in memory, as opening one takes 0.2 s."""

    def __init__(self, storage: PemStorage, passphrase: Callable[[], str | None]) -> None:
        self._storage = storage
        self._passphrase = passphrase  # called each time: an operator may change it while this process runs
        self._keys: dict[str, tuple[str, PrivateKey]] = {}
        self._lock = threading.Lock()

    @property
    def checkpoint_storage(self) -> CheckpointStorage:
        """The storage of the PEM text."""
        return self._storage

    def generate(self, alg: str) -> PublicKey:
        """Make a private key for `alg`, pending."""
        return self.import_key(ALGORITHMS[alg].generate(), alg)

    def import_key(self, key: PrivateKey, alg: str) -> PublicKey:
        """Store an existing private key, pending; refuse a passphrase that does not open the other keys."""
        passphrase = self._passphrase()
        self._require_current_passphrase(passphrase)
        public = ALGORITHMS[alg].public_key(key)
        self._storage.write(public.kid, pem_of(key, passphrase))
        self._hold(public.kid, alg, key)
        return public

    def keep(self, kid: str) -> None:
        """Make a pending key permanent."""
        self._storage.keep(kid)

    def load(self, kid: str, alg: str) -> None:
        """Open `kid` and verify that the kid is its thumbprint."""
        if kid in self._keys and self._keys[kid][0] == alg:
            return
        key = _opened(kid, self._storage.read(kid), self._passphrase())
        algorithm = ALGORITHMS[alg]
        if not isinstance(key, algorithm.key_type) or algorithm.public_key(key).kid != kid:
            raise KeyUnavailable(f"the private key stored as {kid} is another key: it was swapped or renamed")
        self._hold(kid, alg, key)

    def sign(self, kid: str, data: bytes) -> bytes:
        """Return the JWS signature of `data`."""
        try:
            alg, key = self._keys[kid]
        except KeyError:
            raise KeyUnavailable(f"the private key {kid} is not loaded") from None
        return ALGORITHMS[alg].sign(key, data)

    def destroy(self, kid: str) -> bool:
        """Remove the private key."""
        with self._lock:
            self._keys.pop(kid, None)
        return self._storage.remove(kid)

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent private keys."""
        return self._storage.kept()

    def unload_all_but(self, kids: Collection[str]) -> None:
        """Drop other keys from memory."""
        with self._lock:
            self._keys = {kid: key for kid, key in self._keys.items() if kid in kids}

    def _hold(self, kid: str, alg: str, key: PrivateKey) -> None:
        with self._lock:
            self._keys[kid] = (alg, key)

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of everything in the storage that belongs to none of `kids`."""
        return self._storage.orphans(kids)

    def rewrap(self, passphrase: str) -> int:
        """Encrypt all private keys under `passphrase`."""
        done: dict[str, bool] = {}
        for kid in self._kids():
            self._to_rewrap(kid, passphrase)  # raises before anything is changed
        while todo := self._kids() - done.keys():  # a node may have made another key meanwhile
            for kid in todo:
                key = self._to_rewrap(kid, passphrase)
                if key:
                    self._storage.rewrite(kid, pem_of(key, passphrase))
                done[kid] = key is not None
        if any(self._to_rewrap(kid, passphrase) for kid in self._kids()):
            raise KeyUnavailable(
                "another process changes the passphrase at the same time: wait until it is done, and run this again"
            )
        return sum(done.values())

    def _kids(self) -> frozenset[str]:
        return self._storage.kept() | self._storage.pending()

    def _to_rewrap(self, kid: str, new: str) -> PrivateKey | None:
        """Return a private key that is not encrypted under `new` as `pem_of` does it; None otherwise."""
        try:
            pem = self._storage.read(kid)
        except KeyUnavailable:
            if kid not in self._kids():
                return None
            raise
        with suppress(KeyUnavailable):
            key = _opened(kid, pem, new)
            return None if is_current(pem) else key
        return _opened(kid, pem, self._passphrase() if is_encrypted(pem) else None)

    def _require_current_passphrase(self, passphrase: str | None) -> None:
        """Refuse to store a key under a passphrase that `rewrap` has replaced: the nodes could not open it."""
        refusal: KeyUnavailable | None = None
        for kid in self._storage.kept():
            try:
                _opened(kid, self._storage.read(kid), passphrase)
            except KeyUnavailable as error:
                refusal = error
            else:
                return
        if refusal:
            raise refusal


def _opened(kid: str, pem: bytes, passphrase: str | None) -> PrivateKey:
    try:
        return cast("PrivateKey", load_pem_private_key(pem, passphrase.encode() if passphrase else None))
    except TypeError as error:  # a passphrase for a plain key, or none for an encrypted one
        if passphrase:
            raise WrongPassphrase(
                f"the private key {kid} is not encrypted, but ISSUER_KEYS_PASSPHRASE[_FILE] is set",
                Fix(Kind.KEYS_NOT_ENCRYPTED, ENCRYPT_ANEW),
            ) from error
        raise WrongPassphrase(
            f"the private key {kid} is encrypted, but ISSUER_KEYS_PASSPHRASE[_FILE] is not set"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if not is_encrypted(pem) or not is_whole(pem):
            raise KeyUnavailable(
                f"the private key {kid} is damaged, and no passphrase opens it: restore it from the backup"
            ) from error
        raise WrongPassphrase(
            f"the private key {kid} does not open: wrong ISSUER_KEYS_PASSPHRASE[_FILE], or a damaged file; give the"
            " passphrase it was made under (if `issuer keys rewrap` was interrupted, run it again), or restore the"
            " key from the backup"
        ) from error


def opens(pem: bytes, passphrase: str) -> bool:
    """Whether an encrypted private key opens under a passphrase."""
    with suppress(KeyUnavailable):
        _opened("", pem, passphrase)
        return True
    return False
