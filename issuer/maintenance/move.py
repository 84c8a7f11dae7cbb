"""Moves all data to another database: checks before, one transaction that copies, and verification before its commit.

Rows are copied by `copy`. The tombstone that keeps nodes from starting on the old database is set by `keyring.store`.
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
from issuer.database.engines import lift_time_limits
from issuer.database.errors import DatabaseDamaged, DatabaseForeign
from issuer.errors import NoRing, NothingToDo, Refused
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.policy import Policy
from issuer.keyring.ring import PUBLISHED, KeyRing
from issuer.keyring.store import RingStore
from issuer.maintenance.copy import Progress, copy_tables, count_rows, store_private_keys
from issuer.signing.pem import PemStorage
from issuer.signing.self_test import prove
from issuer.signing.signer import Signer


@dataclass(frozen=True)
class Place:
    """A database, and the signer for the private keys of its key ring."""

    database: Database
    signer: Signer


@dataclass(frozen=True)
class Contents:
    """What a move copies, or has copied."""

    rows: Mapping[str, int]
    """The number of rows of each table."""
    private_keys: int
    """The number of private keys that are stored in the new database; those in a PKCS#11 token stay there."""
    audit_fault: str | None
    """Why the audit log of the old database does not verify, or None."""


class Move:
    """Copies everything from one database to another, empty one; after a crash that one is empty or complete."""

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
        self._storage = storage  # of the old database; None if private keys stay in a PKCS#11 token
        self._policy = policy
        self._clock = clock
        self._actor = actor
        self._ring_store = RingStore(old.database)

    def preview(self) -> Contents:
        """Return what would be copied, and change nothing; raise StoreError or KeyRingError if that is impossible."""
        self._require_different()
        _require_schema(self._old.database)
        ring = self._ring_store.load()
        if ring is None:
            raise NoRing(f"there is no key ring in {self._old.database}: nothing to move")
        self._require_no_nodes()
        self._prove(self._old.signer, ring)
        self._require_empty()
        with self._old.database.snapshot() as connection:
            rows = count_rows(connection)
        del rows["private_keys"]  # those of the ring are reported separately
        audit_fault = integrity_error(*AuditStore(self._old.database).chain())
        return Contents(rows, len(self._pems(ring)), audit_fault)

    def perform(self, progress: Progress) -> Contents:
        """Move everything, and return what was copied; raise StoreError or KeyRingError if nothing was moved.

        If the database fails during the commit, the outcome is unknown: then the tombstone stays.
        """
        before = self.preview()
        ring = self._ring_store.load()
        if ring is None:
            raise NoRing("the key ring was removed during the move: nothing was moved")
        self._new.database.migrate()
        self._ring_store.mark_moved(str(self._new.database), self._clock())
        is_verified = False
        try:
            # Again: a node that started before the tombstone has sent a heartbeat, a later one finds the tombstone.
            self._require_no_nodes()
            with self._new.database.together():
                contents = self._copy(ring, before, progress)
                is_verified = True
        except BaseException as error:
            if not is_verified:
                self._ring_store.unmark_moved()
            if isinstance(error, IntegrityError):
                raise Refused(
                    f"another program wrote to {self._new.database} during the move: nothing was moved"
                ) from None
            raise
        return contents

    def _copy(self, ring: KeyRing, before: Contents, progress: Progress) -> Contents:
        pems = self._pems(ring)
        with self._old.database.snapshot() as source, self._new.database.write() as target:
            lift_time_limits(source)
            lift_time_limits(target)
            rows = copy_tables(source, target, lambda table, rows: notify(progress, table, rows))
            store_private_keys(target, pems)
            if count_rows(target) != {**rows, "private_keys": len(pems)}:
                raise DatabaseDamaged(f"{self._new.database} does not hold all rows: nothing was moved")
            if RingStore(self._new.database).load() != ring:
                raise DatabaseDamaged("the copy of the key ring differs: nothing was moved")
            audit_fault = integrity_error(*AuditStore(self._new.database).chain())
            if audit_fault and before.audit_fault is None:
                raise DatabaseDamaged(f"the copy of the audit log differs, {audit_fault}: nothing was moved")
            self._prove(self._new.signer, ring)
            append(
                target, [Entry(self._clock(), self._actor, Action.MOVED, reason=f"from {self._old.database}")]
            )
        return Contents(rows, len(pems), audit_fault)

    def _pems(self, ring: KeyRing) -> dict[str, bytes]:
        """Return the encrypted private keys of all keys of the ring that are not revoked."""
        if self._storage is None:
            return {}
        stored = self._storage.kept() | self._storage.pending()
        return {
            key.kid: self._storage.read(key.kid)
            for key in ring.keys
            if not key.revoked_at and key.kid in stored
        }

    def _prove(self, signer: Signer, ring: KeyRing) -> None:
        """Raise KeyUnavailable unless each published key signs and matches its public key."""
        now = max(self._clock(), ring.changed_at)
        for key in ring.keys:
            if ring.phase(key, now) in PUBLISHED:
                prove(signer, key)

    def _require_different(self) -> None:
        if str(self._old.database) == str(self._new.database):
            raise Refused(f"{self._new.database} is the current database already")

    def _require_empty(self) -> None:
        new = self._new.database
        if new.is_missing:
            return
        try:
            revision = new.schema().revision
        except DatabaseForeign as error:
            raise Refused(f"{new} is not empty, it holds {error.held}: create a new database") from None
        if revision is None:
            return
        held = [f"tables of revision {revision}"]
        if revision == SCHEMA:
            with new.snapshot() as connection:
                held = [f"{count} rows in {name}" for name, count in count_rows(connection).items() if count]
        if held:
            raise Refused(f"{new} is not empty, it holds {', '.join(held)}: create a new database")

    def _require_no_nodes(self) -> None:
        """Raise Refused, with the instant from which it is allowed, while a process may use the old database."""
        now, skew = self._clock(), self._policy.clock_skew
        beats = HeartbeatStore(self._old.database).all()
        alive = [beat for beat in beats if not beat.has_left and beat.signs_until + skew > now]
        if alive:
            until = max(beat.signs_until for beat in alive) + skew
            names = ", ".join(sorted(beat.name for beat in alive))
            raise Refused(
                f"stop all processes that use {self._old.database} first: {names}; a killed process counts as"
                f" running until {instant(until)}",
                until,
            )


def undo_move(database: Database, actor: str, now: datetime) -> str:
    """Make the old database usable again, and return where everything was moved to.

    What was written to the new database since is not copied back. Raise NothingToDo if nothing was moved.
    """
    _require_schema(database)
    store = RingStore(database)
    entry = Entry(now, actor, Action.MOVED, reason=f"back to {database}")
    to = store.unmark_moved([entry])
    if to is None:
        raise NothingToDo(f"nothing was moved away from {database}")
    return to


def _require_schema(database: Database) -> None:
    """Raise Refused for the schema of an older version, NoRing without one, StoreError if it cannot be used."""
    if database.is_missing:
        raise NoRing(f"there is no database {database}: run this command in the folder of the issuer")
    revision = database.schema().revision
    if revision is None:
        raise NoRing(f"there are no tables in {database}: run this command in the folder of the issuer")
    if revision != SCHEMA:
        raise Refused(
            f"{database} has schema {revision}, and this version needs {SCHEMA}: back it up, and start the issuer of"
            " this version on it once"
        )
