"""Changes of the ring: load it, decide what is due, make keys, and save it if no other process was first.

The rules are those of `ring`; this module performs them, for the timer and for operators. Storing and destroying
private keys is left to `private_keys`, and calling `reconcile` every second in each process to `node`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from issuer.clock import Clock
from issuer.database.errors import DatabaseDamaged, StoreError
from issuer.errors import KeyRingError, KeyUnavailable, NoRing, OlderRing, Refused
from issuer.keyring.attempts import Retry, TooManyAttempts, is_timely, save_within_attempts
from issuer.keyring.checkpoint import RingCheckpoint
from issuer.keyring.clock_comparison import ClockComparison
from issuer.keyring.fresh_keys import FreshKeys
from issuer.keyring.plan import completed
from issuer.keyring.policy import Policy
from issuer.keyring.private_keys import PrivateKeys
from issuer.keyring.restore_detection import comes_after, describe_conflict, describe_missing_ring
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore
from issuer.keyring.transitions import transitions
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer

Operation = Callable[[KeyRing, datetime], KeyRing]
"""A decision about the ring at an instant; raises KeyRingError to refuse."""

GENERATION_BACKOFF = timedelta(seconds=10)
"""How long no key is made after one could not be made."""


@dataclass(frozen=True)
class _Request:
    """What is to be done to the ring, and which failures do not prevent it."""

    operation: Operation
    reason: str | None = None
    first_key: PublicKey | None = None
    """The imported key with which a new ring begins."""
    may_create: bool = False
    """Create the ring if there is none."""
    may_lack_standby: bool = False
    """Save even if a missing standby key cannot be made."""
    skip_open_check: bool = False
    """Save without a check that the keys that are to sign can be opened."""


class Rotation:
    """Changes the ring. Processes that do so at the same time never lose a key or leave two current ones."""

    def __init__(self, store: RingStore, signer: Signer, policy: Policy, clock: Clock, actor: str) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._actor = actor
        self.private_keys = PrivateKeys(signer)
        self.checkpoint = RingCheckpoint(signer.checkpoint_storage, store)
        self.clocks = ClockComparison(store, policy, clock)
        self.generation_error: str | None = None
        """Why a standby key that is due could not be made here, or keys could not be opened."""
        self._generate_from: datetime | None = None

    def version(self) -> object:
        """Return the version of the saved ring, unchecked, by one read of an integer."""
        return self._store.version()

    def ring(self) -> KeyRing:
        """Return the ring as it is saved; raise NoRing before there is one, OlderRing if a newer one was seen."""
        # The audit before the ring: both are saved at once, and another process may save between the two reads.
        recorded = self._store.recorded()
        ring = self._load()
        if ring and ring.version < recorded:
            raise DatabaseDamaged(
                f"the key ring in the database is at version {ring.version}, but the audit log beside it records"
                f" version {recorded}: an older ring was written over it; restore the backup, and find"
                " out who can write there"
            )
        if ring is None:
            raise NoRing(
                "there is no key ring in this database; run this where the issuer runs, or set"
                " ISSUER_DATABASE_URL; the first `issuer serve` makes the ring"
            )
        return ring

    def _load(self) -> KeyRing | None:
        # The checkpoint first: it is written after the ring is saved, so it is never newer than the database.
        seen = self.checkpoint.ring()
        ring = self._store.load()
        if seen and not comes_after(ring, seen):
            raise OlderRing(describe_conflict(ring, seen))
        return ring

    def reconcile(self, *, starting: bool = False) -> KeyRing:
        """Do what is due and return the ring; create it if there is none.

        A process that is `starting` computes the activation times again, as its rotation period may have changed. One
        that cannot make or open keys leaves what is due to the others, and sets `generation_error`.
        """
        if starting and self._load():
            self.ring()  # compares it with the audit log, too
        operation: Operation = (
            (lambda ring, now: ring.scheduled(self._policy, now)) if starting else _unchanged
        )
        try:
            return self._save(_Request(operation, may_create=True, may_lack_standby=True))
        except KeyUnavailable as error:
            ring = self._store.load()
            if ring is None:
                raise
            self.generation_error = str(error)
            return ring

    def change(
        self,
        operation: Operation,
        reason: str | None = None,
        *,
        emergency: bool = False,
        skip_open_check: bool = False,
    ) -> KeyRing:
        """Perform an operator's `operation`, and what is due besides, in one save.

        Raise KeyUnavailable if a standby key cannot be made, unless it is an `emergency`, or if a key that is to sign
        does not open, unless `skip_open_check`.
        """
        return self._save(
            _Request(operation, reason, may_lack_standby=emergency, skip_open_check=skip_open_check)
        )

    def preview(self, operation: Operation) -> KeyRing:
        """Return the ring as `operation` would leave it, raising what it would raise; nothing is made or saved."""
        ring = self.ring()
        now = ring.decision_instant(self._policy, self._clock())
        before, made = completed(ring, self._policy, now)
        after, more = completed(operation(before, now), self._policy, now)
        self._require_openable(after, {key.kid for key in (*made, *more)}, now)
        return replace(after, changed_at=now)

    def import_key(self, key: PublicKey, *, current: bool, reason: str) -> KeyRing:
        """Add a key that the signer imported as a standby, or with `current` as the first key of a new ring.

        Raise what `require_importable` raises.
        """
        try:
            if current:
                return self._save(_Request(_refuse_second_ring, reason, first_key=key, may_create=True))
            return self.change(lambda ring, now: ring.imported(key, self._policy, now), reason)
        except Exception:
            ring = self._store.load()
            self.private_keys.discard([key], ring)
            if ring is not None:
                self.sync_private_keys()  # the ring may hold the key already, with a pending copy beside it
            raise

    def require_importable(self, key: PublicKey, *, current: bool) -> None:
        """Raise Refused if the ring holds `key`, or if there is a ring and `current` asks for a new one.

        Raise NoRing if there is none to add it to.
        """
        ring = self._load() if current else self.ring()
        if ring is not None:
            now = self._clock()
            _refuse_second_ring(ring, now) if current else ring.imported(key, self._policy, now)

    def require_creatable(self) -> None:
        """Raise KeyUnavailable if there are private keys and no ring: they belong to another database's.

        That database was lost or is elsewhere, and a new ring would invalidate every token of the old one.
        """
        kept = self._signer.kept()
        if kept and self._store.load() is None:
            raise KeyUnavailable(describe_missing_ring(len(kept)))

    def sync_private_keys(self) -> None:
        """Make private keys permanent or destroy them as the ring says: complete what a crash interrupted."""
        self.private_keys.sync(self.ring(), again=True)

    def _save(self, request: _Request) -> KeyRing:
        self.clocks.require()
        fresh = FreshKeys(self._signer, self.private_keys, self._policy.algorithm)
        try:
            saved = save_within_attempts(lambda: self._attempt(request, fresh))
        except TooManyAttempts:
            fresh.discard_unused(self._store.load())
            raise
        # The checkpoint before any private key is destroyed that an older, restored ring would need.
        self.checkpoint.write(saved)
        fresh.discard_unused(saved)
        self.private_keys.sync(saved)
        return saved

    def _attempt(self, request: _Request, fresh: FreshKeys) -> KeyRing | Retry:
        """Save the ring as requested, unless it is so already."""
        # Before the ring is loaded: a process stopped in between would judge an old ring.
        decided_at = self._clock()
        before = self._load() if request.may_create else self.ring()
        if before is None:
            self.require_creatable()
        now = before.decision_instant(self._policy, decided_at) if before else decided_at
        try:
            decided = self._decide(before, request, fresh, now)
            after = replace(decided, version=decided.version + 1, changed_at=now)
            entries = transitions(before, after, self._actor, request.reason)
            if before and decided == before and not entries:
                return before
            if before and not request.skip_open_check:
                self._require_openable(decided, fresh.kids, now)
        except Exception as error:
            if isinstance(error, KeyUnavailable) and self._has_changed_since(before):
                return Retry.KEY_DESTROYED
            fresh.discard_unused(before)
            raise
        if not is_timely(self._clock, decided_at):
            return Retry.TOO_LATE
        # If this raises, the ring may have been saved nevertheless: the fresh keys stay.
        entries = self.private_keys.destroy_retired(entries)
        still_timely = partial(is_timely, self._clock, decided_at)
        return self._store.save(after, entries, still_timely, before=before) or Retry.NOT_FIRST

    def _has_changed_since(self, before: KeyRing | None) -> bool:
        now = self._store.load()
        return now is not None and (before is None or now.version != before.version)

    def _require_openable(self, after: KeyRing, fresh: frozenset[str] | set[str], now: datetime) -> None:
        """Open the keys that are to sign; raise KeyUnavailable, as nodes could not open them either.

        This detects a command that runs with another passphrase or another key directory than the nodes. If all keys
        that may sign are `fresh`, any other trusted key is opened instead.
        """
        old = [key for key in after.keys if key.kid not in fresh and key.revoked_at is None]
        may_sign = [key for key in old if key in (after.current(now), *after.standbys(now))]
        for key in may_sign or old[-1:]:
            self._signer.load(key.kid, key.alg)

    def _decide(self, before: KeyRing | None, request: _Request, fresh: FreshKeys, now: datetime) -> KeyRing:
        if before is None:
            imported = [request.first_key] if request.first_key else []
            made = fresh.take(1 + self._policy.standby_keys - len(imported))
            return KeyRing.create([*imported, *made], self._policy, now)
        # What is due comes first: an emergency must not fail because there is no standby.
        ready = self._completed(before, request, fresh, now)
        return self._completed(request.operation(ready, now), request, fresh, now)

    def _completed(self, ring: KeyRing, request: _Request, fresh: FreshKeys, now: datetime) -> KeyRing:
        """Return the ring maintained, and with the standbys that it lacks."""
        maintained = ring.maintained(self._policy, now)
        missing = maintained.shortfall(now, self._policy)
        if not missing:
            self.generation_error = None
            return maintained
        if request.may_lack_standby and self._is_backing_off(now):
            return maintained
        try:
            made = fresh.take(missing, maintained)
        except (KeyRingError, StoreError) as error:
            if not request.may_lack_standby:
                raise
            self.generation_error = f"no standby can be made: {error}"
            self._generate_from = now + GENERATION_BACKOFF
            return maintained
        return maintained.published(made, self._policy, now)

    def _is_backing_off(self, now: datetime) -> bool:
        """Whether a key could not be made a moment ago; a clock that was set back since does not prolong that."""
        generate_from = self._generate_from
        return generate_from is not None and now < generate_from <= now + GENERATION_BACKOFF


def _unchanged(ring: KeyRing, _now: datetime) -> KeyRing:
    return ring


def _refuse_second_ring(_ring: KeyRing, _now: datetime) -> KeyRing:
    raise Refused("there is a key ring already: import the key without --current, and it becomes a standby")
