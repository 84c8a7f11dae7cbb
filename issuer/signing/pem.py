"""Private keys as PKCS#8 PEM, encrypted under the passphrase; a storage says where the text is kept.

The storage that is a directory is `directory`, the one in the database `pem_database`.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from issuer.errors import KeyUnavailable, WrongPassphrase
from issuer.fixes import Fix, Kind
from issuer.signing.algorithms import ALGORITHMS, PrivateKey
from issuer.signing.encryption import is_current, is_encrypted, is_whole, pem_of
from issuer.signing.public_key import PublicKey

ENCRYPT_ANEW = "issuer keys rewrap --same-passphrase"


class PemStorage(Protocol):
    """Where PEM text is kept, by kid."""

    def write(self, kid: str, pem: bytes) -> None:
        """Keep `pem` durably, as pending, in place of an earlier pending one."""

    def rewrite(self, kid: str, pem: bytes) -> None:
        """Keep `pem` in place of the text of `kid`, durably and in one step."""

    def keep(self, kid: str) -> None:
        """Make a pending text permanent."""

    def read(self, kid: str) -> bytes:
        """Return the text of `kid`, pending or kept; raise KeyUnavailable."""

    def remove(self, kid: str) -> bool:
        """Remove the text of `kid`; return whether there was one."""

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent texts."""

    def pending(self) -> frozenset[str]:
        """Return the kids of all pending texts."""

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of what lies here and belongs to none of `kids`."""

    def checkpoints(self) -> Sequence[bytes]:
        """Return what was noted last, or nothing."""

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Note `text` if it `replaces` what is noted."""


class PemSigner:
    """Signs with PEM keys from a storage; loaded keys stay in memory, as opening one costs 0.2 s."""

    def __init__(self, storage: PemStorage, passphrase: Callable[[], str | None]) -> None:
        self._storage = storage
        self._passphrase = passphrase  # asked each time: it may be changed while we run
        self._keys: dict[str, tuple[str, PrivateKey]] = {}
        self._lock = threading.Lock()

    def generate(self, alg: str) -> PublicKey:
        """Make a private key for `alg`, pending."""
        return self.import_key(ALGORITHMS[alg].generate(), alg)

    def import_key(self, key: PrivateKey, alg: str) -> PublicKey:
        """Import a private key, pending; refuse while our passphrase is not the one that encrypts the others."""
        passphrase = self._passphrase()
        self._require_in_use(passphrase)
        public = ALGORITHMS[alg].public_key(key)
        self._storage.write(public.kid, pem_of(key, passphrase))
        self._hold(public.kid, alg, key)
        return public

    def keep(self, kid: str) -> None:
        """Make a pending key permanent."""
        self._storage.keep(kid)

    def load(self, kid: str, alg: str) -> None:
        """Open `kid` and check that it is the key that its name says."""
        if kid in self._keys and self._keys[kid][0] == alg:
            return
        key = _opened(kid, self._storage.read(kid), self._passphrase())
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
        """Return the names of what lies in the storage and belongs to none of `kids`."""
        return self._storage.orphans(kids)

    def checkpoints(self) -> Sequence[bytes]:
        """Return what was noted last beside the private keys, or nothing."""
        return self._storage.checkpoints()

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Note `text` if it `replaces` what is noted."""
        self._storage.write_checkpoint(text, replaces)

    def rewrap(self, passphrase: str) -> int:
        """Encrypt all private keys under `passphrase`."""
        done: dict[str, bool] = {}
        for kid in self._kids():
            self._under_old(kid, passphrase)
        while todo := self._kids() - done.keys():  # a node may have made another meanwhile
            for kid in todo:
                key = self._under_old(kid, passphrase)
                if key:
                    self._storage.rewrite(kid, pem_of(key, passphrase))
                done[kid] = key is not None
        if any(self._under_old(kid, passphrase) for kid in self._kids()):
            raise KeyUnavailable(
                "a key came under another passphrase meanwhile: see who else does that, and run it again"
            )
        return sum(done.values())

    def _kids(self) -> frozenset[str]:
        return self._storage.kept() | self._storage.pending()

    def _under_old(self, kid: str, new: str) -> PrivateKey | None:
        """Return a private key that is not under the new passphrase as we encrypt now; None if it is, or is gone."""
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

    def _require_in_use(self, passphrase: str | None) -> None:
        """Refuse to make a key under a passphrase that `rewrap` has replaced: the nodes could not open it."""
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
