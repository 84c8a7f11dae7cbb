"""Reconcile: load the ring, decide what is due, make keys, save if nobody else did, and let old keys go.

The rules are `keyring`'s; this file performs them, for the timer and for operators alike.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from issuer.keyring import (
    Key,
    KeyRing,
    KeyRingError,
    KeyUnavailable,
    NoRing,
    Phase,
    PublicKey,
    StaleView,
    View,
)
from issuer.policy import Policy
from issuer.signing import Signer
from issuer.store.ring import RingStore

Move = Callable[[KeyRing, datetime], KeyRing]
"""A decision about the ring at an instant; raises KeyRingError to refuse."""

Clock = Callable[[], datetime]

DECISION_LIFETIME = timedelta(seconds=1)
"""How long after a decision about the ring it may be saved; later it is taken again."""


class Rotation:
    """Changes the ring; two processes that do so at once never lose a key or leave two current ones."""

    def __init__(self, store: RingStore, signer: Signer, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._settled: set[tuple[str, bool]] = set()

    def ring(self) -> KeyRing:
        """Return the ring as it is saved; raise NoRing before there is one."""
        ring = self._store.load()
        if ring is None:
            raise NoRing(
                "there is no key ring in this database; run this where the issuer runs, or set"
                " ISSUER_DATABASE_URL; the first `issuer serve` makes the ring"
            )
        return ring

    def reconcile(self) -> KeyRing:
        """Do what is due and return the ring; the first time, found it."""
        return self._save(lambda ring, _now: ring, may_found=True)

    def change(self, move: Move) -> KeyRing:
        """Perform an operator's `move`, with everything that is due after it, in one save."""
        return self._save(move, may_found=False)

    def _save(self, move: Move, *, may_found: bool) -> KeyRing:
        fresh: list[PublicKey] = []
        saved: KeyRing | None = None
        while saved is None:
            before = self._store.load() if may_found else self.ring()
            if before is None and not self._may_found():
                continue  # another process founded it since we looked
            now = self._clock()
            try:
                after = self._decide(before, move, fresh, now)
                if before is not None and after != before:
                    self._require_openable(after, fresh, now)
            except Exception:
                with suppress(KeyRingError):  # what went wrong first is what is told
                    self._discard(fresh, before)
                raise
            if after == before:
                saved = before
            elif self._is_timely(now):
                self._destroy_retired(before, after, now)
                # If this raises, the save may have come through all the same: the fresh keys stay.
                saved = self._store.save(after, partial(self._is_timely, now))
        self._discard(fresh, saved)
        self._settle(saved)
        return saved

    def _is_timely(self, decided_at: datetime) -> bool:
        """Tell whether a decision may still be saved.

        Making keys, waiting for a lock or being stopped takes time, and saved late it would change the past.
        """
        return self._clock() - decided_at <= DECISION_LIFETIME

    def _require_openable(self, after: KeyRing, fresh: list[PublicKey], now: datetime) -> None:
        """Open what is to sign from now on; raise KeyUnavailable, or nodes could not follow this change.

        A command run with another passphrase or another directory than the nodes' is found out here. Where
        all that may sign was just made, any other key that is still trusted serves as the proof.
        """
        made = {key.kid for key in fresh}
        old = [key for key in after.keys if key.kid not in made and key.revoked_at is None]
        may_sign = [key for key in old if key in (after.current(now), *after.standbys(now))]
        for key in may_sign or old[-1:]:
            self._signer.load(key.kid, key.alg)

    def _discard(self, fresh: list[PublicKey], ring: KeyRing | None) -> None:
        """Destroy keys made for a ring that was not saved."""
        named = {key.kid for key in ring.keys} if ring else set()
        for key in fresh:
            if key.kid not in named:
                self._signer.destroy(key.kid)

    def _decide(self, before: KeyRing | None, move: Move, fresh: list[PublicKey], now: datetime) -> KeyRing:
        if before is None:
            return KeyRing.found(self._make(fresh, 1 + self._policy.standby_keys, fresh), self._policy, now)
        # First what was due anyway: an emergency must not fail for want of a standby.
        return self._complete(move(self._complete(before, fresh, now), now), fresh, now)

    def _complete(self, ring: KeyRing, fresh: list[PublicKey], now: datetime) -> KeyRing:
        tended = ring.tended(self._policy, now)
        unused = [key for key in fresh if key.kid not in {each.kid for each in tended.keys}]
        missing = tended.shortfall(now, self._policy)
        return tended.published(self._make(unused, missing, fresh), self._policy, now)

    def _make(self, unused: list[PublicKey], count: int, fresh: list[PublicKey]) -> list[PublicKey]:
        """Return `count` new keys; those of an attempt that came too late are used first."""
        made = unused[:count]
        while len(made) < count:
            made.append(self._signer.generate(self._policy.algorithm))
            fresh.append(made[-1])
        return made

    def _may_found(self) -> bool:
        """Tell whether there is no ring still; refuse to found one beside the private keys of another.

        Its database was lost or is elsewhere, and a new ring would break every token of the old one.
        """
        kept = self._signer.kept()
        if kept and self._store.load() is None:
            raise KeyUnavailable(
                f"there are {len(kept)} private keys but no key ring in the database: restore the database or"
                " correct ISSUER_DATABASE_URL; to start afresh, move the keys away"
            )
        return not kept

    def _destroy_retired(self, before: KeyRing | None, after: KeyRing, now: datetime) -> None:
        """Destroy private halves before the ring forgets them, so that a crash leaves none behind."""
        remaining = {key.kid for key in after.keys}
        for key in before.keys if before else ():
            if key.kid not in remaining and before and before.phase(key, now) is Phase.RETIRED:
                self._signer.destroy(key.kid)

    def _settle(self, ring: KeyRing) -> None:
        """Keep the private halves the ring names and destroy those it distrusts; harmless to repeat."""
        for key in ring.keys:
            trusted = key.revoked_at is None
            if (key.kid, trusted) in self._settled:
                continue
            if trusted:
                self._signer.keep(key.kid)
            else:
                self._signer.destroy(key.kid)
            self._settled.add((key.kid, trusted))


class Node:
    """One process's view of the ring: refreshed every few seconds, judged at each use."""

    def __init__(self, rotation: Rotation, signer: Signer, clock: Clock) -> None:
        self._rotation = rotation
        self._signer = signer
        self._clock = clock
        self._view: View | None = None

    @property
    def view(self) -> View:
        """The latest view; raise StaleView before the first."""
        if self._view is None:
            raise StaleView("this node has not seen the key ring yet")
        return self._view

    def _loaded(self, ring: KeyRing) -> tuple[Key, ...]:
        now = self._clock()
        may_sign = (ring.current(now), *ring.standbys(now))
        for key in may_sign:
            self._signer.load(key.kid, key.alg)
        return may_sign

    def refresh(self) -> View:
        """Do what is due, make ready every key that may sign, and take up the view as a whole."""
        seen_at = self._clock()
        ring = self._rotation.reconcile()
        try:
            may_sign = self._loaded(ring)
        except KeyUnavailable:
            again = self._rotation.reconcile()
            if again.version == ring.version:
                raise
            ring, may_sign = again, self._loaded(again)  # it was revoked in this very moment
        before, self._view = self._view, View(ring, seen_at)
        # A request under way may be about to sign by the view before.
        leaving = {before.ring.current(before.refreshed_at).kid} if before else set()
        self._signer.unload_all_but(leaving | {key.kid for key in may_sign})
        return self._view
