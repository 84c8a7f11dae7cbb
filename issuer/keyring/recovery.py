"""Recovery after an older database was restored: the key ring is rebuilt from the checkpoint with its private keys.

`restore_detection` decides how the two rings are merged. `rotation` refuses to continue with the older ring.
"""

from dataclasses import replace
from functools import partial

from issuer.audit.chain import Action, Entry
from issuer.clock import Clock
from issuer.errors import NothingToDo, Refused
from issuer.keyring.attempts import Retry, is_timely, save_within_attempts
from issuer.keyring.policy import Policy
from issuer.keyring.restore_detection import comes_after, merged
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.keyring.transitions import transitions
from issuer.signing.self_test import require_sound
from issuer.signing.signer import Signer


class Recovery:
    """Restores the key ring; if two operators do so at the same time, it is restored once."""

    def __init__(
        self, rotation: Rotation, store: RingStore, signer: Signer, policy: Policy, clock: Clock, actor: str
    ) -> None:
        self._rotation = rotation
        self._store = store
        self._signer = signer
        self._private_keys = rotation.private_keys
        self._checkpoint = rotation.checkpoint
        self._policy = policy
        self._clock = clock
        self._actor = actor

    def preview(self, *, skip_open_check: bool = False) -> KeyRing:
        """Return the ring as `recover` would save it; raise what that would raise."""
        return self._proposed(skip_open_check=skip_open_check)[1]

    def recover(self, reason: str, *, skip_open_check: bool = False) -> KeyRing:
        """Save the ring of the checkpoint, with the revocations of both rings, and return it.

        Raise NothingToDo if the ring in the database is not older, Refused where there is no checkpoint, and
        KeyUnavailable if a key that is to sign does not open, unless `skip_open_check`.
        """
        self._rotation.clocks.require()
        # Opening keys may take longer than a decision may last. They stay open for the next attempt.
        saved = save_within_attempts(partial(self._attempt, reason, skip_open_check=skip_open_check))
        self._complete(saved)
        return saved

    def _attempt(self, reason: str, *, skip_open_check: bool) -> KeyRing | Retry:
        self._complete_interrupted()
        decided_at = self._clock()
        before, after = self._proposed(skip_open_check=skip_open_check)
        entries = [
            *transitions(before, after, self._actor, reason),
            Entry(after.changed_at, self._actor, Action.RECOVERED, None, after.version, reason),
        ]
        saved = self._store.save(
            after,
            self._private_keys.destroy_retired(entries),
            partial(is_timely, self._clock, decided_at),
            over=before.version if before else 0,
            before=before,
        )
        return saved or Retry.NOT_FIRST

    def _complete(self, ring: KeyRing) -> None:
        self._checkpoint.write(ring, accept_audit=True)
        self._private_keys.sync(ring, again=True)

    def _complete_interrupted(self) -> None:
        """Complete a recovery that was saved and whose checkpoint was not written: it may have been interrupted."""
        seen, before = self._checkpoint.ring(), self._store.load()
        if before and self._is_incomplete(before, seen):
            self._complete(before)

    def _is_incomplete(self, ring: KeyRing, seen: KeyRing | None) -> bool:
        return seen is not None and ring.version > seen.version and self._store.was_recovered(ring)

    def _proposed(self, *, skip_open_check: bool) -> tuple[KeyRing | None, KeyRing]:
        """Return the ring in the database, and the one to put in its place."""
        seen, before = self._checkpoint.ring(), self._store.load()  # in this order; see `Rotation`
        if seen is None:
            raise Refused(
                "no checkpoint with the private keys shows a newer key ring; only a directory of keys has one, and a"
                " PKCS#11 token: restore the newest backup"
            )
        if before is not None and comes_after(before, seen):
            if self._checkpoint.audit_error() is None or self._is_incomplete(before, seen):
                raise NothingToDo(
                    "the key ring in the database is as new as the checkpoint with its private keys"
                )
            both = replace(before, version=before.version + 1)  # only the audit log is accepted as it is
        else:
            both = merged(before, seen, self._signer.kept())
        now = both.decision_instant(self._policy, self._clock())
        after = replace(both.maintained(self._policy, now), changed_at=now)
        for key in after.keys:
            require_sound(key)
        if not skip_open_check:
            for key in (after.current(now), *after.standbys(now)):
                self._signer.load(key.kid, key.alg)
        return before, after
