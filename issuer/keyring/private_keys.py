"""Which private keys are made permanent or destroyed, as the key ring says, and which of that failed.

Generating and opening private keys is left to `signing`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from issuer.audit.chain import Action, Entry
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError
from issuer.keyring.ring import KeyRing
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer


class PrivateKeys:
    """Makes the private keys match the ring; each method may be repeated."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._synced: set[tuple[str, bool]] = set()
        self.destruction_errors: dict[str, str] = {}
        """Why a private key could not be removed, by kid."""
        self.destroyed: dict[str, bool] = {}
        """Whether there was a private key to remove, by kid."""

    def sync(self, ring: KeyRing, *, again: bool = False) -> None:
        """Make private keys of trusted keys permanent and destroy those of revoked ones.

        Those that this process synced before are skipped, unless `again`.
        """
        if again:
            self._synced.clear()
        for kid in self.destruction_errors.keys() - {key.kid for key in ring.keys}:
            self._destroy(kid)
        for key in ring.keys:
            trusted = key.revoked_at is None
            if (key.kid, trusted) not in self._synced and self._sync(key.kid, trusted=trusted):
                self._synced.add((key.kid, trusted))

    def discard(self, fresh: Iterable[PublicKey], ring: KeyRing | None) -> None:
        """Destroy those of the `fresh` keys that the saved `ring` does not trust."""
        trusted = {key.kid for key in ring.keys if key.revoked_at is None} if ring else set()
        for key in fresh:
            if key.kid not in trusted:
                self._destroy(key.kid)

    def destroy_retired(self, entries: Iterable[Entry]) -> list[Entry]:
        """Destroy the private keys that `entries` retire, and return the entries with the errors as reasons.

        This happens before the ring without these keys is saved, so that a crash leaves none behind.
        """
        return [
            replace(entry, reason=self._destroy(entry.kid or "")) if entry.action is Action.RETIRED else entry
            for entry in entries
        ]

    def _sync(self, kid: str, *, trusted: bool) -> bool:
        """Return whether it succeeded; it is tried again next time otherwise."""
        if not trusted:
            return self._destroy(kid) is None
        with suppress(KeyRingError, StoreError):
            # A pending key signs, too, and `checks` reports the failure.
            self._signer.keep(kid)
            return True
        return False

    def _destroy(self, kid: str) -> str | None:
        """Destroy a private key, or return why it could not be done, which does not stop a change of the ring."""
        self.destruction_errors.pop(kid, None)
        try:
            self.destroyed[kid] = self._signer.destroy(kid)
        except (KeyRingError, StoreError) as error:
            self.destruction_errors[kid] = f"the private key of {kid} could not be removed: {error}"
        return self.destruction_errors.get(kid)
