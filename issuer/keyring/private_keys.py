"""Keeps and removes private keys as the key ring requires, and reports what failed.

Generating and opening them is left to `signing`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from issuer.audit.chain import Action, Entry, Head
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, KeyUnavailable
from issuer.keyring.restore_detection import WAY_OUT
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore, Unreadable, checkpoint_document, checkpoint_head, read
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer


class DamagedCheckpoint(KeyRingError):
    """What is noted of the ring beside the private keys cannot be read."""


class PrivateKeys:
    """Brings the private keys in line with the ring; harmless to repeat."""

    def __init__(self, signer: Signer, chain: RingStore | None = None) -> None:
        self._signer = signer
        self._chain = chain
        self._settled: set[tuple[str, bool]] = set()
        self.destruction_errors: dict[str, str] = {}
        """Why a private key could not be removed, by kid."""
        self.destroyed: dict[str, bool] = {}
        """Whether there was a private key to remove, by kid."""
        self.checkpoint_error: str | None = None
        """Why the ring could not be noted beside them."""
        self._checkpoint: tuple[bytes, KeyRing] | None = None

    def checkpoint(self) -> KeyRing | None:
        """Return the newest ring that was noted with the private keys, or None.

        It lags behind the database and never leads: who compares the two reads this one first. Where private
        keys are out of reach it is what this process saw last: a revocation counts all the same. Raise
        DamagedCheckpoint for one that is damaged and that this process never saw.
        """
        with suppress(KeyUnavailable):
            texts = self._signer.checkpoints()
            if not texts:
                self._checkpoint = None
            elif self._checkpoint is None or self._checkpoint[0] not in texts or len(texts) > 1:
                self._read(max(texts, key=_version))
        return self._checkpoint[1] if self._checkpoint else None

    def write_checkpoint(self, ring: KeyRing, *, accept_audit: bool = False) -> None:
        """Note the ring, once it is saved and before any private key is removed: it tells of an older one restored.

        With it the newest link of the audit; but the link noted before stays while the audit lacks it, unless an
        operator accepts the audit as it is: who cuts it off could else have the next rotation cover that up.
        A failure to note is kept in `unnoted` and is not raised: the ring is saved.
        """
        self.checkpoint_error = None
        if self._checkpoint and self._checkpoint[1].version >= ring.version and not accept_audit:
            return
        try:
            before = None if accept_audit else self._noted_head()
            text = checkpoint_document(ring, self._next_head(before))
            self._signer.write_checkpoint(text, lambda noted: _version(noted) < ring.version)
        except (KeyUnavailable, OSError) as error:
            self.checkpoint_error = f"the key ring could not be noted with its private keys: {error}"

    def audit_error(self) -> str | None:
        """Return that the audit lacks the link noted with the private keys, or None; raise StoreError.

        None also where nothing is noted, or the note cannot be read: `checks` reports that.
        """
        with suppress(KeyUnavailable):
            head = self._noted_head()
            if head and self._chain and not self._chain.has_link(head):
                return (
                    f"the audit lacks entry {head.number} that was noted with the private keys: its newest entries"
                    " were removed or replaced, or an older backup was restored; find out who can write to the"
                    f" database, then accept the audit as it is: {WAY_OUT}"
                )
        return None

    def checkpointed_entry(self) -> int | None:
        """Return up to which entry the audit was noted with the private keys, or None."""
        with suppress(KeyUnavailable):
            head = self._noted_head()
            return head.number if head else None
        return None

    def _noted_head(self) -> Head | None:
        texts = self._signer.checkpoints()
        return checkpoint_head(max(texts, key=_version)) if texts else None

    def _next_head(self, before: Head | None) -> Head | None:
        if self._chain is None:
            return before
        try:
            # In this order: the link is read from a chain that has the one before.
            head = self._chain.audit_head()
            return head if before is None or self._chain.has_link(before) else before
        except StoreError:
            return before

    def sync(self, ring: KeyRing, *, again: bool = False) -> None:
        """Keep those that the ring names and destroy those that it distrusts; `again`, all of them."""
        if again:
            self._settled.clear()
        for kid in self.destruction_errors.keys() - {key.kid for key in ring.keys}:
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

    def destroy_retired(self, entries: Iterable[Entry]) -> list[Entry]:
        """Destroy those of retired keys before the ring forgets them: a crash leaves none behind."""
        return [
            replace(entry, reason=self._destroy(entry.kid or "")) if entry.action is Action.RETIRED else entry
            for entry in entries
        ]

    def _read(self, text: bytes) -> None:
        try:
            self._checkpoint = text, read(text)
        except Unreadable as error:
            if self._checkpoint is None:
                raise DamagedCheckpoint(
                    f"the note of the key ring with its private keys is damaged, {error}: if no older backup of the"
                    " database was restored, remove it (in a directory ring.json, in a PKCS#11 token the data object"
                    " jwks-issuer ring); nodes write it anew"
                ) from None

    def _is_settled(self, kid: str, *, trusted: bool) -> bool:
        """Keep or destroy a private key; False if it could not be done, which is tried again next time."""
        if not trusted:
            return self._destroy(kid) is None
        with suppress(KeyRingError, StoreError):
            # It signs while pending, too, and a failure is reported by `checks`.
            self._signer.keep(kid)
            return True
        return False

    def _destroy(self, kid: str) -> str | None:
        """Destroy a private key, or return why it could not be done: the ring goes on without it all the same."""
        self.destruction_errors.pop(kid, None)
        try:
            self.destroyed[kid] = self._signer.destroy(kid)
        except (KeyRingError, StoreError) as error:
            self.destruction_errors[kid] = f"the private key of {kid} could not be removed: {error}"
        return self.destruction_errors.get(kid)


def _version(noted: bytes) -> int:
    """Return the version of a noted ring; less than any for one that is damaged."""
    try:
        return read(noted).version
    except Unreadable:
        return -1
