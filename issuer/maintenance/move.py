"""Moving into another database: what must hold before, the copy in one transaction, and the proof that all arrived.

Rows are copied by `copy`. The mark by which nothing starts on the old database is kept by `keyring.store`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from issuer.audit.chain import Action, Entry, integrity_error
from issuer.audit.store import AuditStore, append
from issuer.callbacks import notify
from issuer.clock import instant
from issuer.database.database import SCHEMA, Database
from issuer.database.engines import take_time
from issuer.database.errors import DatabaseDamaged, DatabaseForeign
from issuer.errors import NoRing, NothingToDo, Refused
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.policy import Policy
from issuer.keyring.ring import PUBLISHED, KeyRing
from issuer.keyring.store import RingStore
from issuer.maintenance.copy import copy, counted, keep
from issuer.signing.pem import PemStorage
from issuer.signing.self_test import prove
from issuer.signing.signer import Signer

Told = Callable[[str, int], None]
"""Hears of which table how many rows more were copied."""


@dataclass(frozen=True)
class Place:
    """A database, and what signs with the private keys of the ring in it."""

    database: Database
    signer: Signer


@dataclass(frozen=True)
class Contents:
    """What is moved, or was."""

    rows: Mapping[str, int]
    """By table."""
    private_keys: int
    """How many are taken into the database; none that are in a token."""
    audit_fault: str | None
    """What is wrong with the audit, and was before."""


class Move:
    """Takes everything from one database into another, empty one; a crash leaves that one empty or whole."""

    def __init__(
        self,
        old: Place,
        new: Place,
        storage: PemStorage | None,
        policy: Policy,
        clock: Callable[[], datetime],
        actor: str,
    ) -> None:
        self._old = old
        self._new = new
        self._storage = storage  # of the old one; None where private keys stay in a token
        self._policy = policy
        self._clock = clock
        self._actor = actor
        self._ring_store = RingStore(old.database)

    def preview(self) -> Contents:
        """Return what would be moved, and change nothing; raise StoreError or KeyRingError if it cannot be."""
        self._require_other()
        _require_schema(self._old.database)
        ring = self._ring_store.load()
        if ring is None:
            raise NoRing(f"there is no key ring in {self._old.database}: nothing to move")
        self._require_nobody()
        self._prove(self._old.signer, ring)
        self._require_empty()
        with self._old.database.snapshot() as connection:
            rows = counted(connection)
        del rows["private_keys"]  # those of the ring are reported separately
        wrong = integrity_error(*AuditStore(self._old.database).chain())
        return Contents(rows, len(self._pems(ring)), wrong)

    def perform(self, told: Told) -> Contents:
        """Move, and return what was; raise StoreError or KeyRingError, after which nothing was moved.

        Only if the database fails while it commits, that cannot be known: the mark stays.
        """
        before = self.preview()
        ring = self._ring_store.load()
        if ring is None:
            raise NoRing("the key ring has gone")
        self._new.database.migrate()
        self._ring_store.mark_moved(str(self._new.database), self._clock())
        is_whole = False
        try:
            self._require_nobody()  # who began before the mark is seen by now; who begins after it sees the mark
            with self._new.database.together():
                contents = self._moved(ring, before, told)
                is_whole = True
        except BaseException as error:
            if not is_whole:
                self._ring_store.unmark_moved()
            if isinstance(error, IntegrityError):
                raise Refused(
                    f"somebody else wrote to {self._new.database} meanwhile: nothing was moved"
                ) from None
            raise
        return contents

    def _moved(self, ring: KeyRing, before: Contents, told: Told) -> Contents:
        pems = self._pems(ring)
        with self._old.database.snapshot() as source, self._new.database.write() as target:
            take_time(source)
            take_time(target)
            rows = copy(source, target, lambda table, rows: notify(told, table, rows))
            keep(target, pems)
            arrived = counted(target)
            if arrived != {**rows, "private_keys": len(pems)}:
                raise DatabaseDamaged(f"not all rows arrived in {self._new.database}: nothing was moved")
            if RingStore(self._new.database).load() != ring:
                raise DatabaseDamaged("the key ring did not arrive as it was: nothing was moved")
            wrong = integrity_error(*AuditStore(self._new.database).chain())
            if wrong and before.audit_fault is None:
                raise DatabaseDamaged(f"the audit did not arrive whole, {wrong}: nothing was moved")
            self._prove(self._new.signer, ring)
            append(
                target, [Entry(self._clock(), self._actor, Action.MOVED, reason=f"from {self._old.database}")]
            )
        return Contents(rows, len(pems), wrong)

    def _pems(self, ring: KeyRing) -> dict[str, bytes]:
        """Return the private keys, in encrypted form, of all keys that the ring trusts."""
        if self._storage is None:
            return {}
        here = self._storage.kept() | self._storage.pending()
        return {
            key.kid: self._storage.read(key.kid)
            for key in ring.keys
            if not key.revoked_at and key.kid in here
        }

    def _prove(self, signer: Signer, ring: KeyRing) -> None:
        """Raise KeyUnavailable unless each published key signs and matches its public key."""
        now = max(self._clock(), ring.changed_at)
        for key in ring.keys:
            if ring.phase(key, now) in PUBLISHED:
                prove(signer, key)

    def _require_other(self) -> None:
        if str(self._old.database) == str(self._new.database):
            raise Refused(f"{self._new.database} is the database that everything is in already")

    def _require_empty(self) -> None:
        new = self._new.database
        if new.is_missing:
            return
        try:
            revision = new.schema().revision
        except DatabaseForeign as error:
            raise Refused(f"{new} is not empty, it holds {error.held}: make a new database") from None
        if revision is None:
            return
        held = [f"tables of revision {revision}"]
        if revision == SCHEMA:
            with new.snapshot() as connection:
                held = [f"{count} rows in {name}" for name, count in counted(connection).items() if count]
        if held:
            raise Refused(f"{new} is not empty, it holds {', '.join(held)}: make a new database")

    def _require_nobody(self) -> None:
        """Raise Refused while a process may be at work on the old database, with the instant when none is."""
        now, skew = self._clock(), self._policy.clock_skew
        beats = HeartbeatStore(self._old.database).all()
        alive = [beat for beat in beats if not beat.has_left and beat.signs_until + skew > now]
        if alive:
            until = max(beat.signs_until for beat in alive) + skew
            names = ", ".join(sorted(beat.name for beat in alive))
            raise Refused(
                f"stop what runs on {self._old.database} first: {names}; a process that was killed counts until"
                f" {instant(until)}",
                until,
            )


def take_back(database: Database, actor: str, now: datetime) -> str:
    """Let the database from which everything was moved be used again, and return where it was moved to.

    What was written there since is not here. Raise NothingToDo if nothing was moved.
    """
    _require_schema(database)
    store = RingStore(database)
    entry = Entry(now, actor, Action.MOVED, reason=f"back to {database}")
    to = store.unmark_moved([entry])
    if to is None:
        raise NothingToDo(f"nothing was moved away from {database}")
    return to


def _require_schema(database: Database) -> None:
    """Raise Refused for a database of an earlier version, StoreError for one that cannot be used; change neither."""
    if database.is_missing:
        raise NoRing(f"there is no database {database}: run this where the issuer runs")
    revision = database.schema().revision
    if revision is None:
        raise NoRing(f"there are no tables in {database}: run this where the issuer runs")
    if revision != SCHEMA:
        raise Refused(
            f"{database} is at revision {revision}, and this program knows {SCHEMA}: back it up, and start the issuer"
            " of this version on it once"
        )
