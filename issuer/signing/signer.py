"""The interface of what stores private keys and signs by kid; a private key is never returned.

`pem` and `pkcs11.signer` implement it. Which key signs is decided in `keyring`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from issuer.signing.algorithms import PrivateKey
from issuer.signing.public_key import PublicKey


class CheckpointStorage(Protocol):
    """Stores one checkpoint text beside the private keys, where they are outside of the database."""

    def read_checkpoints(self) -> Sequence[bytes]:
        """Return the checkpoint, or nothing; raise KeyUnavailable when it cannot be read.

        Several texts are returned if nodes wrote at the same time and nothing locks the storage.
        """

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Store `text` if it `replaces` every text that is there; there is always one in between.

        Do nothing where no checkpoint can be stored.
        """


class Signer(Protocol):
    """A storage of private keys that signs. A key is made `pending`, and made permanent once the ring holds it."""

    @property
    def checkpoint_storage(self) -> CheckpointStorage:
        """The storage of the checkpoint beside the private keys."""

    def generate(self, alg: str) -> PublicKey:
        """Make a private key for the JWS algorithm `alg`, pending, and return its public key."""

    def import_key(self, key: PrivateKey, alg: str) -> PublicKey:
        """Store an existing private key, pending; raise Refused where keys can only be generated inside."""

    def keep(self, kid: str) -> None:
        """Make a pending key permanent. Repeating it is harmless."""

    def load(self, kid: str, alg: str) -> None:
        """Make `kid` ready to sign; raise KeyUnavailable when it cannot."""

    def sign(self, kid: str, data: bytes) -> bytes:
        """Return the JWS signature of `data`, RFC 7515 section 5.1; raise KeyUnavailable if not loaded."""

    def unload_all_but(self, kids: Collection[str]) -> None:
        """Drop every other key from memory; it can be loaded again."""

    def destroy(self, kid: str) -> bool:
        """Remove the private key, pending or permanent; return whether there was one."""

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent private keys, without opening them."""

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of everything in the storage that belongs to none of `kids`."""

    def rewrap(self, passphrase: str) -> int:
        """Encrypt all private keys under another passphrase and return how many were under the old one.

        Repeating it completes what was interrupted. Raise KeyUnavailable, before anything is changed, for a key that
        opens with neither passphrase; raise Refused where keys are not encrypted by this program.
        """
