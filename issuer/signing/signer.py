"""Signing: a backend signs by kid and never returns the private key.

Which key signs is decided in `keyring`; backends are sibling modules.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from issuer.signing.algorithms import PrivateKey
from issuer.signing.public_key import PublicKey


class Signer(Protocol):
    """A place where private keys live. A key is made `pending`, and `kept` once the ring names it."""

    def generate(self, alg: str) -> PublicKey:
        """Make a private key for the JWS algorithm `alg`, pending, and return its public key."""

    def import_key(self, key: PrivateKey, alg: str) -> PublicKey:
        """Import a private key, pending; raise Refused where keys can only be generated inside."""

    def keep(self, kid: str) -> None:
        """Make a pending key permanent; the ring names it now. Doing it twice is harmless."""

    def load(self, kid: str, alg: str) -> None:
        """Make `kid` ready to sign; raise KeyUnavailable when it cannot."""

    def sign(self, kid: str, data: bytes) -> bytes:
        """Return the JWS signature of `data`, RFC 7515 section 5.1; raise KeyUnavailable if not loaded."""

    def unload_all_but(self, kids: Collection[str]) -> None:
        """Drop every other key from memory; it can be loaded again."""

    def destroy(self, kid: str) -> bool:
        """Remove the private key, pending or kept; return whether there was one."""

    def kept(self) -> frozenset[str]:
        """Return the kids of all permanent private keys, without opening them."""

    def orphans(self, kids: Collection[str]) -> list[str]:
        """Return the names of what lies among the private keys and belongs to none of `kids`."""

    def checkpoints(self) -> Sequence[bytes]:
        """Return what was noted last beside the private keys; nothing where nothing can be noted.

        It is several texts where nodes noted at once and nothing keeps them apart. Raise KeyUnavailable when it
        cannot be read.
        """

    def write_checkpoint(self, text: bytes, replaces: Callable[[bytes], bool]) -> None:
        """Note `text` if it `replaces` all that is noted, and never let there be none in between.

        Do nothing where nothing can be noted.
        """

    def rewrap(self, passphrase: str) -> int:
        """Encrypt all private keys under another passphrase and tell how many were under the old one.

        Doing it again completes what was interrupted. Raise KeyUnavailable, before anything is changed, for a key
        that opens with neither; Refused where keys are under no passphrase of ours.
        """
