"""Private keys that are made for a ring that is not saved yet: used by the attempt that is saved, or destroyed.

When they are needed is decided in `rotation`.
"""

from issuer.keyring.private_keys import PrivateKeys
from issuer.keyring.ring import KeyRing
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer


class FreshKeys:
    """The keys made in the attempts of one save."""

    def __init__(self, signer: Signer, private_keys: PrivateKeys, algorithm: str) -> None:
        self._signer = signer
        self._private_keys = private_keys
        self._algorithm = algorithm
        self._made: list[PublicKey] = []

    @property
    def kids(self) -> frozenset[str]:
        """The kids of all of them."""
        return frozenset(key.kid for key in self._made)

    def take(self, count: int, ring: KeyRing | None = None) -> list[PublicKey]:
        """Return `count` keys that `ring` does not hold: those of an earlier attempt, then new ones."""
        used = {key.kid for key in ring.keys} if ring else set()
        unused = [key for key in self._made if key.kid not in used]
        while len(unused) < count:
            key = self._signer.generate(self._algorithm)
            self._made.append(key)
            unused.append(key)
        return unused[:count]

    def discard_unused(self, ring: KeyRing | None) -> None:
        """Destroy the private keys that the saved `ring` does not trust."""
        self._private_keys.discard(self._made, ring)
