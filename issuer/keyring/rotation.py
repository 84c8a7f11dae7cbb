"""Reconcile: load the ring, decide what is due, make keys, and save if nobody else did.

The rules are `keyring`'s; this file performs them, for the timer and for operators alike. Keeping and
removing private keys is left to `private_keys`; running it every second in each process, to `node`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from issuer.clock import Clock, duration, instant
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable, StoreError
from issuer.errors import KeyRingError, KeyUnavailable, NoRing, OlderRing, Refused, WrongClock
from issuer.keyring.plan import completed
from issuer.keyring.policy import DECISION_LIFETIME, Policy
from issuer.keyring.private_keys import PrivateKeys
from issuer.keyring.restore_detection import comes_after, describe_conflict, describe_missing_ring
from issuer.keyring.ring import KeyRing
from issuer.keyring.store import RingStore
from issuer.keyring.transitions import transitions
from issuer.signing.public_key import PublicKey
from issuer.signing.signer import Signer

Move = Callable[[KeyRing, datetime], KeyRing]
"""A decision about the ring at an instant; raises KeyRingError to refuse."""


GENERATION_RETRY = timedelta(seconds=10)
"""How long after a key could not be made it is tried again."""

CLOCKS_AGREE = timedelta(seconds=5)
"""Operators are warned of more. Keys are safe up to S, but verifiers allow for less: nothing, or some seconds."""

ATTEMPTS = 50
"""How often a decision that came too late is taken again: nobody loses that often, something else is wrong."""


@dataclass(frozen=True)
class _Asked:
    """What is to be done to the ring, and what need not hold for it."""

    move: Move
    reason: str | None = None
    first: PublicKey | None = None
    """The key of a new ring that was made elsewhere."""
    may_create: bool = False
    may_lack_standby: bool = False
    """Do it although what is due besides, a new standby, cannot be made."""
    skip_open_check: bool = False
    """Do not see whether what is to sign opens."""


class Rotation:
    """Changes the ring; two processes that do so at once never lose a key or leave two current ones."""

    def __init__(self, store: RingStore, signer: Signer, policy: Policy, clock: Clock, actor: str) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._actor = actor
        self.private_keys = PrivateKeys(signer, store)
        self.generation_error: str | None = None
        """Why what is due could not be done here, or not all of it."""
        self._make_from: datetime | None = None
        self.clock_ahead: timedelta | None = None
        """By how much the clock of this machine was ahead of the database's when they were last compared."""

    def ring(self) -> KeyRing:
        """Return the ring as it is saved; raise NoRing before there is one, OlderRing if a newer one was seen."""
        # Before the ring: both are saved at once, and others go on meanwhile.
        recorded = self._store.recorded()
        ring = self._load()
        if ring and ring.version < recorded:
            raise DatabaseDamaged(
                f"the key ring in the database is at version {ring.version}, and the audit beside it tells of version"
                f" {recorded}: somebody put an older one back; restore the backup, and find out who can write there"
            )
        if ring is None:
            raise NoRing(
                "there is no key ring in this database; run this where the issuer runs, or set"
                " ISSUER_DATABASE_URL; the first `issuer serve` makes the ring"
            )
        return ring

    def _load(self) -> KeyRing | None:
        noted = self.private_keys.checkpoint()  # before the database: it never leads
        ring = self._store.load()
        if noted and not comes_after(ring, noted):
            raise OlderRing(describe_conflict(ring, noted))
        return ring

    def reconcile(self, *, starting: bool = False) -> KeyRing:
        """Do what is due and return the ring; the first time, found it.

        A process that is starting sets the turns anew, as its rotation period may be another. One that can make or
        open no keys leaves what is due to the others, and says in `unmade` why.
        """
        if starting and self._load():
            self.ring()  # looks closer
        move: Move = (lambda ring, now: ring.scheduled(self._policy, now)) if starting else _unmoved
        try:
            return self._save(_Asked(move, may_create=True, may_lack_standby=True))
        except KeyUnavailable as error:
            ring = self._store.load()
            if ring is None:
                raise
            self.generation_error = str(error)
            return ring

    def change(
        self, move: Move, reason: str | None = None, *, emergency: bool = False, skip_open_check: bool = False
    ) -> KeyRing:
        """Perform an operator's `move`, with everything that is due after it, in one save.

        Raise KeyUnavailable if a new standby cannot be made, which an `emergency` does not wait for, or if nodes
        may be unable to open what is to sign; `skip_open_check` does not look.
        """
        return self._save(_Asked(move, reason, may_lack_standby=emergency, skip_open_check=skip_open_check))

    def preview(self, move: Move) -> KeyRing:
        """Return the ring as `move` would leave it, raising what it would raise; nothing is made or saved."""
        ring = self.ring()
        now = ring.decision_instant(self._policy, self._clock())
        before, unmade = completed(ring, self._policy, now)
        after, more = completed(move(before, now), self._policy, now)
        self._require_openable(after, [*unmade, *more], now)
        return replace(after, changed_at=now)

    def import_key(self, key: PublicKey, *, current: bool, reason: str) -> KeyRing:
        """Let a key that the signer adopted be a standby, or with `current` the first key of a new ring.

        Raise what `require_place` raises.
        """
        try:
            if current:
                return self._save(_Asked(_refuse_another_ring, reason, first=key, may_create=True))
            return self.change(lambda ring, now: ring.imported(key, self._policy, now), reason)
        except Exception:
            ring = self._store.load()
            self.private_keys.discard([key], ring)
            if ring is not None:
                self.sync()  # it may be there already, and was pending beside itself
            raise

    def sync(self) -> None:
        """Keep and destroy private keys as the ring says: what a crash after a save left undone."""
        self.private_keys.sync(self.ring(), again=True)

    def require_place(self, key: PublicKey, *, current: bool) -> None:
        """Raise Refused if the ring has `key`, or for `current` if there is a ring; NoRing otherwise if not."""
        ring = self._load() if current else self.ring()
        if ring is not None:
            now = self._clock()
            _refuse_another_ring(ring, now) if current else ring.imported(key, self._policy, now)

    def _save(self, asked: _Asked) -> KeyRing:
        fresh: list[PublicKey] = []
        self.require_clock()
        for _ in range(ATTEMPTS):
            saved = self._attempt(asked, fresh)
            if saved is not None:
                self.private_keys.write_checkpoint(
                    saved
                )  # before a half is destroyed that an older ring would miss
                self.private_keys.discard(fresh, saved)
                self.private_keys.sync(saved)
                return saved
        self.private_keys.discard(fresh, self._store.load())
        raise DatabaseUnavailable(f"the key ring was changed by others {ATTEMPTS} times meanwhile: try again")

    def _attempt(self, asked: _Asked, fresh: list[PublicKey]) -> KeyRing | None:
        """Return the ring as asked; None if others were faster, or we too slow to save what we decided."""
        clock = self._clock()  # before we look: a process stopped in between would judge an old ring
        before = self._load() if asked.may_create else self.ring()
        if before is None and not self.require_creatable():
            return None  # another process founded it since we looked
        now = before.decision_instant(self._policy, clock) if before else clock
        try:
            after = self._decide(before, asked, fresh, now)
            version = replace(after, version=after.version + 1, changed_at=now)
            entries = transitions(before, version, self._actor, asked.reason)
            changes = before is None or after != before or bool(entries)
            if before is not None and changes and not asked.skip_open_check:
                self._require_openable(after, fresh, now)
        except Exception as error:
            if isinstance(error, KeyUnavailable) and self._has_moved_on(before):
                return None  # somebody else destroyed it, by a change that we have not seen
            self.private_keys.discard(fresh, before)
            raise
        if not changes:
            return before
        if not self._is_timely(clock):
            return None
        # If this raises, the save may have come through all the same: the fresh keys stay.
        return self._store.save(
            version, self.private_keys.destroy_retired(entries), partial(self._is_timely, clock)
        )

    def require_clock(self) -> None:
        """Raise WrongClock rather than decide by a clock that is further from the others than S."""
        before, shared, own = self._clock(), self._store.clock(), self._clock()
        # How long the question took is not held against either clock.
        self.clock_ahead = None if shared is None else min(own, max(before, shared)) - shared
        if self.clock_ahead and abs(self.clock_ahead) > self._policy.clock_skew + DECISION_LIFETIME:
            theirs = instant(own - self.clock_ahead)
            raise WrongClock(
                f"the clock of this machine says {instant(own)} and that of the database {theirs}: they may"
                f" differ by {duration(self._policy.clock_skew)} (ISSUER_CLOCK_SKEW); set this one, by NTP"
            )

    def clock_warning(self) -> str | None:
        """Return that the clocks differ by more than verifiers can be expected to allow for, or None."""
        if self.clock_ahead is None or abs(self.clock_ahead) <= CLOCKS_AGREE:
            return None
        apart, harm = "behind", "tokens end earlier than they say to others"
        if self.clock_ahead > CLOCKS_AGREE:
            apart, harm = "ahead of", "verifiers that allow for less refuse new tokens, as from the future"
        return (
            f"the clock of this machine is more than {duration(CLOCKS_AGREE)} {apart} that of the database, so that"
            f" {harm}: set both by NTP"
        )

    def _has_moved_on(self, before: KeyRing | None) -> bool:
        now = self._store.load()
        return before is not None and now is not None and now.version != before.version

    def _is_timely(self, decided_at: datetime) -> bool:
        """Whether a decision may still be saved.

        Making keys, waiting for a lock or being stopped takes time, and saved late it would change the past.
        """
        return abs(self._clock() - decided_at) <= DECISION_LIFETIME  # set back meanwhile, it proves nothing

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

    def _decide(
        self, before: KeyRing | None, asked: _Asked, fresh: list[PublicKey], now: datetime
    ) -> KeyRing:
        if before is None:
            known = [asked.first] if asked.first else []
            made = self._make(fresh, 1 + self._policy.standby_keys - len(known), fresh)
            return KeyRing.create([*known, *made], self._policy, now)
        # First what was due anyway: an emergency must not fail for want of a standby.
        ready = self._complete(before, fresh, now, may_lack_standby=asked.may_lack_standby)
        return self._complete(asked.move(ready, now), fresh, now, may_lack_standby=asked.may_lack_standby)

    def _complete(
        self, ring: KeyRing, fresh: list[PublicKey], now: datetime, *, may_lack_standby: bool
    ) -> KeyRing:
        maintained = ring.maintained(self._policy, now)
        unused = [key for key in fresh if key.kid not in {each.kid for each in maintained.keys}]
        missing = maintained.shortfall(now, self._policy)
        if not missing:
            self.generation_error = None
        elif may_lack_standby and self._make_from and now < self._make_from <= now + GENERATION_RETRY:
            return maintained
        try:
            made = self._make(unused, missing, fresh)
        except (KeyRingError, StoreError) as error:
            if not may_lack_standby:
                raise
            self.generation_error, self._make_from = (
                f"no standby can be made: {error}",
                now + GENERATION_RETRY,
            )
            return maintained
        return maintained.published(made, self._policy, now)

    def _make(self, unused: list[PublicKey], count: int, fresh: list[PublicKey]) -> list[PublicKey]:
        """Return `count` new keys; those of an attempt that came too late are used first."""
        made = unused[:count]
        while len(made) < count:
            made.append(self._signer.generate(self._policy.algorithm))
            fresh.append(made[-1])
        return made

    def require_creatable(self) -> bool:
        """Whether there is no ring still; refuse to found one beside the private keys of another.

        Its database was lost or is elsewhere, and a new ring would break every token of the old one.
        """
        kept = self._signer.kept()
        if kept and self._store.load() is None:
            raise KeyUnavailable(describe_missing_ring(len(kept)))
        return not kept


def _unmoved(ring: KeyRing, _now: datetime) -> KeyRing:
    return ring


def _refuse_another_ring(_ring: KeyRing, _now: datetime) -> KeyRing:
    raise Refused("there is a key ring already: import the key without --current, and it becomes a standby")
