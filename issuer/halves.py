"""What becomes of private halves: kept and destroyed as the ring says, and told where that fails.

Making and opening them is `signing`'s work.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from issuer.audit import Action, Entry
from issuer.key import PublicKey
from issuer.keyring import KeyRing
from issuer.refusal import KeyRingError
from issuer.signing import Signer
from issuer.store.database import StoreError


class PrivateHalves:
    """Brings the private halves in line with the ring; harmless to repeat."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._settled: set[tuple[str, bool]] = set()
        self.undestroyed: dict[str, str] = {}
        """Why a private half could not be destroyed, by kid."""
        self.destroyed: dict[str, bool] = {}
        """Whether there was a private half to destroy, by kid."""

    def settle(self, ring: KeyRing, *, again: bool = False) -> None:
        """Keep those that the ring names and destroy those that it distrusts; `again`, all of them."""
        if again:
            self._settled.clear()
        for kid in self.undestroyed.keys() - {key.kid for key in ring.keys}:
            self._destroy(kid)
        for key in ring.keys:
            trusted = key.revoked_at is None
            if (key.kid, trusted) not in self._settled and self._is_settled(key.kid, trusted=trusted):
                self._settled.add((key.kid, trusted))

    def discard(self, fresh: Iterable[PublicKey], ring: KeyRing | None) -> None:
        """Destroy keys made for a ring that was not saved: those that `ring` does not trust."""
        trusted = {key.kid for key in ring.keys if key.revoked_at is None} if ring else set()
        for key in fresh:
            if key.kid not in trusted:
                self._destroy(key.kid)

    def let_go(self, entries: Iterable[Entry]) -> list[Entry]:
        """Destroy those of retired keys before the ring forgets them: a crash leaves none behind."""
        return [
            replace(entry, reason=self._destroy(entry.kid or "")) if entry.action is Action.RETIRED else entry
            for entry in entries
        ]

    def _is_settled(self, kid: str, *, trusted: bool) -> bool:
        """Keep or destroy a private half; False if it could not be done, which is tried again next time."""
        if not trusted:
            return self._destroy(kid) is None
        with suppress(KeyRingError, StoreError):
            # It signs while pending, too, and what hinders it is told elsewhere.
            self._signer.keep(kid)
            return True
        return False

    def _destroy(self, kid: str) -> str | None:
        """Destroy a private half, or return why it could not be done: the ring goes on without it all the same."""
        self.undestroyed.pop(kid, None)
        try:
            self.destroyed[kid] = self._signer.destroy(kid)
        except (KeyRingError, StoreError) as error:
            self.undestroyed[kid] = f"the private half of {kid} could not be destroyed: {error}"
        return self.undestroyed.get(kid)
