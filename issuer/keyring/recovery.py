"""The way out after an older database was restored: the key ring is put back as its private keys know it.

How the two rings become one is decided in `restore_detection`; `rotation` refuses to continue with the older one.
"""

from dataclasses import replace

from issuer.audit.chain import Action, Entry
from issuer.clock import Clock
from issuer.database.errors import DatabaseUnavailable
from issuer.errors import NothingToDo, Refused
from issuer.keyring.policy import DECISION_LIFETIME, Policy
from issuer.keyring.restore_detection import comes_after, merged
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import ATTEMPTS, Rotation
from issuer.keyring.store import RingStore
from issuer.keyring.transitions import transitions
from issuer.signing.self_test import require_sound
from issuer.signing.signer import Signer


class Recovery:
    """Puts the key ring back; two operators who do so at once do it once."""

    def __init__(
        self, rotation: Rotation, store: RingStore, signer: Signer, policy: Policy, clock: Clock, actor: str
    ) -> None:
        self._rotation = rotation
        self._store = store
        self._signer = signer
        self._private_keys = rotation.private_keys
        self._policy = policy
        self._clock = clock
        self._actor = actor

    def preview(self, *, skip_open_check: bool = False) -> KeyRing:
        """Return the ring as `recover` would save it; raise what that would raise."""
        return self._proposed(skip_open_check=skip_open_check)[1]

    def recover(self, reason: str, *, skip_open_check: bool = False) -> KeyRing:
        """Save the ring as the private keys know it, with the revocations of both, and return it.

        Raise NothingToDo if the database has no older one, Refused where nothing is noted beside private keys,
        KeyUnavailable if what would sign does not open; `skip_open_check` does not look.
        """
        self._rotation.require_clock()
        for _ in range(ATTEMPTS):  # to open keys may take longer than a decision lasts; they stay open
            saved = self._attempt(reason, skip_open_check=skip_open_check)
            if saved is not None:
                self._private_keys.write_checkpoint(saved, accept_audit=True)
                self._private_keys.sync(saved, again=True)
                return saved
        raise DatabaseUnavailable(
            f"the key ring could not be saved in {ATTEMPTS} attempts: others change it, or this machine is too busy;"
            " try again"
        )

    def _attempt(self, reason: str, *, skip_open_check: bool) -> KeyRing | None:
        """Return the ring as it was saved; None if others were faster, or we too slow to save what we decided."""
        self._complete()
        decided_at = self._clock()
        before, after = self._proposed(skip_open_check=skip_open_check)
        entries = [
            *transitions(before, after, self._actor, reason),
            Entry(after.changed_at, self._actor, Action.RECOVERED, None, after.version, reason),
        ]
        done = self._private_keys.destroy_retired(entries)
        return self._store.save(
            after,
            done,
            lambda: abs(self._clock() - decided_at) <= DECISION_LIFETIME,  # as in `Rotation`
            over=before.version if before else 0,
        )

    def _complete(self) -> None:
        """Note a recovery that was saved but not noted: its operator is about to, or was interrupted before that."""
        noted, before = self._private_keys.checkpoint(), self._store.load()
        if before and self._is_unnoted(before, noted):
            self._private_keys.write_checkpoint(before, accept_audit=True)
            self._private_keys.sync(before, again=True)

    def _is_unnoted(self, ring: KeyRing, noted: KeyRing | None) -> bool:
        return noted is not None and ring.version > noted.version and self._store.was_recovered(ring)

    def _proposed(self, *, skip_open_check: bool) -> tuple[KeyRing | None, KeyRing]:
        """Return the ring that the database has, and the one to put in its place."""
        noted, before = self._private_keys.checkpoint(), self._store.load()  # in this order; see `Rotation`
        if noted is None:
            raise Refused(
                "no note with the private keys shows a newer key ring; only a directory of keys does, and a"
                " PKCS#11 token: restore the newest backup"
            )
        if before is not None and comes_after(before, noted):
            if self._private_keys.audit_error() is None or self._is_unnoted(before, noted):
                raise NothingToDo("the key ring in the database is as new as the note with its private keys")
            both = replace(before, version=before.version + 1)  # the audit alone is accepted as it is
        else:
            both = merged(before, noted, self._signer.kept())
        now = both.decision_instant(self._policy, self._clock())
        after = replace(both.maintained(self._policy, now), changed_at=now)
        for key in after.keys:
            require_sound(key)
        if not skip_open_check:
            for key in (after.current(now), *after.standbys(now)):
                self._signer.load(key.kid, key.alg)
        return before, after
