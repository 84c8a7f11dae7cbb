"""What becomes of private halves: kept and destroyed as the ring says, and told where that fails.

Making and opening them is `signing`'s work.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from issuer.audit import Action, Entry
from issuer.key import PublicKey
from issuer.keyring import KeyRing
from issuer.refusal import KeyRingError, KeyUnavailable
from issuer.signing import Signer
from issuer.store.database import StoreError
from issuer.store.ring import Unreadable, read, written


class DamagedNote(KeyRingError):
    """What is noted of the ring beside the private halves cannot be read."""


class PrivateHalves:
    """Brings the private halves in line with the ring; harmless to repeat."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._settled: set[tuple[str, bool]] = set()
        self.undestroyed: dict[str, str] = {}
        """Why a private half could not be destroyed, by kid."""
        self.destroyed: dict[str, bool] = {}
        """Whether there was a private half to destroy, by kid."""
        self.unnoted: str | None = None
        """Why the ring could not be noted beside them."""
        self._note: tuple[bytes, KeyRing] | None = None

    def noted(self) -> KeyRing | None:
        """Return the newest ring that was noted beside the private halves, or None.

        It lags behind the database and never leads: who compares the two reads this one first. Where private
        halves are out of reach it is what this process saw last: a revocation counts all the same. Raise
        DamagedNote for one that is damaged and that this process never saw.
        """
        with suppress(KeyUnavailable):
            texts = self._signer.noted()
            if not texts:
                self._note = None
            elif self._note is None or self._note[0] not in texts or len(texts) > 1:
                self._read(max(texts, key=_version))
        return self._note[1] if self._note else None

    def note(self, ring: KeyRing) -> None:
        """Note the ring, once it is saved and before any half is destroyed: it tells of an older one restored."""
        self.unnoted = None
        if self._note and self._note[1].version >= ring.version:
            return
        try:
            self._signer.note(written(ring), lambda noted: _version(noted) < ring.version)
        except KeyUnavailable as error:
            self.unnoted = f"the key ring could not be noted beside its private keys: {error}"

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

    def _read(self, text: bytes) -> None:
        try:
            self._note = text, read(text)
        except Unreadable as error:
            if self._note is None:
                raise DamagedNote(
                    f"the note of the key ring beside the private keys is damaged, {error}: if no older backup of the"
                    " database was restored, remove it (in a directory ring.json, in a PKCS#11 token the data object"
                    " jwks-issuer ring); nodes write it anew"
                ) from None

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


def _version(noted: bytes) -> int:
    """Return the version of a noted ring; less than any for one that is damaged."""
    try:
        return read(noted).version
    except Unreadable:
        return -1
