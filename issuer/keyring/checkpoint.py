"""The checkpoint: a copy of the key ring and the newest audit link beside the private keys, outside the database.

It shows that an older database was restored; `restore_detection` compares the rings. Where the text is stored is left
to `signing`.
"""

import json
from contextlib import suppress

from issuer.audit.chain import Head
from issuer.audit.store import MOST_ENTRIES
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, KeyUnavailable
from issuer.keyring.document import Unreadable, read, written
from issuer.keyring.restore_detection import RECOVER_COMMAND
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore
from issuer.signing.signer import CheckpointStorage


class DamagedCheckpoint(KeyRingError):
    """The checkpoint with the private keys cannot be read."""


class RingCheckpoint:
    """Reads and writes the checkpoint. Without a ring store, nothing is compared with the audit log."""

    def __init__(self, storage: CheckpointStorage, store: RingStore | None = None) -> None:
        self._storage = storage
        self._store = store
        self._latest: tuple[bytes, KeyRing] | None = None
        self.error: str | None = None
        """Why the checkpoint could not be written."""

    def ring(self) -> KeyRing | None:
        """Return the newest ring of which there is a checkpoint, or None.

        It is never newer than the database if it is read before the database. If the storage cannot be read, return
        the ring that this process read last, so that a revocation still counts. Raise DamagedCheckpoint for one that
        is damaged and that this process never read.
        """
        with suppress(KeyUnavailable):
            texts = self._storage.read_checkpoints()
            if not texts:
                self._latest = None
            elif self._latest is None or self._latest[0] not in texts or len(texts) > 1:
                self._read(max(texts, key=_version))
        return self._latest[1] if self._latest else None

    def write(self, ring: KeyRing, *, accept_audit: bool = False) -> None:
        """Write the checkpoint of `ring`, after it is saved and before any private key is destroyed.

        If the audit lacks the link of the last checkpoint, that link is written again, unless an operator accepts the
        audit as it is: otherwise the next rotation would hide that entries were removed. A failure is kept in `error`
        and not raised, as the ring is saved.
        """
        self.error = None
        if self._latest and self._latest[1].version >= ring.version and not accept_audit:
            return
        try:
            before = None if accept_audit else self._audit_head()
            text = _document(ring, self._next_head(before))
            self._storage.write_checkpoint(text, lambda other: _version(other) < ring.version)
        except (KeyUnavailable, OSError) as error:
            self.error = f"the checkpoint of the key ring could not be written: {error}"

    def audit_error(self) -> str | None:
        """Return that the audit lacks the link of the checkpoint, or None; raise StoreError.

        None also where there is no checkpoint, or it cannot be read: `checks` reports that.
        """
        with suppress(KeyUnavailable):
            head = self._audit_head()
            if head and self._store and not self._store.has_link(head):
                return (
                    f"the audit lacks entry {head.number} of the checkpoint with the private keys: its newest entries"
                    " were removed or replaced, or an older backup was restored; find out who can write to the"
                    f" database, then accept the audit log as it is: {RECOVER_COMMAND}"
                )
        return None

    def audit_number(self) -> int | None:
        """Return the number of the audit entry in the checkpoint, or None."""
        with suppress(KeyUnavailable):
            head = self._audit_head()
            return head.number if head else None
        return None

    def _audit_head(self) -> Head | None:
        texts = self._storage.read_checkpoints()
        return audit_head_in(max(texts, key=_version)) if texts else None

    def _next_head(self, before: Head | None) -> Head | None:
        if self._store is None:
            return before
        try:
            # In this order: the new head is read from a chain that still has the old one.
            head = self._store.audit_head()
            return head if before is None or self._store.has_link(before) else before
        except StoreError:
            return before

    def _read(self, text: bytes) -> None:
        try:
            self._latest = text, read(text)
        except Unreadable as error:
            if self._latest is None:
                raise DamagedCheckpoint(
                    f"the checkpoint with the private keys is damaged, {error}: if no older backup of the database"
                    " was restored, remove it (in a directory ring.json, in a PKCS#11 token the data object"
                    " jwks-issuer ring); nodes write it again"
                ) from None


def _document(ring: KeyRing, head: Head | None) -> bytes:
    members = json.loads(written(ring))
    if head is not None:
        members["audit"] = {"number": head.number, "digest": head.digest}
    return json.dumps(members, separators=(",", ":")).encode()


def audit_head_in(text: bytes) -> Head | None:
    """Return the audit link in a checkpoint; None where there is none, or it cannot be read."""
    try:
        members = json.loads(text)["audit"]
        number, digest = members["number"], members["digest"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if isinstance(number, int) and 0 <= number < MOST_ENTRIES and isinstance(digest, str):
        return Head(number, digest)
    return None


def _version(text: bytes) -> int:
    """Return the version of the ring in a checkpoint; -1 for a damaged one, which any other replaces."""
    try:
        return read(text).version
    except Unreadable:
        return -1
