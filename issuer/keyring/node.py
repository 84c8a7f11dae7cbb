"""Keeping the ring in view: what each process that serves does every second, and what is wrong when it cannot.

Changing the ring is `rotation`'s work, and what a view allows is defined in `view`.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.clock import Clock, instant
from issuer.database.errors import DatabaseDamaged, StoreError
from issuer.errors import KeyRingError, KeyUnavailable, StaleView
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.policy import PUBLISHED_MOST, REFRESH_INTERVAL, Policy
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.view import View
from issuer.signing.self_test import require_sound
from issuer.signing.signer import Signer


@dataclass(frozen=True)
class Failure:
    """Why the ring could not be cared for, and since when; `reason` says what to do."""

    since: datetime
    reason: str


def ring_warnings(ring: KeyRing, policy: Policy, now: datetime) -> list[str]:
    """Return what the ring should have, and has not."""
    overdue = ring.overdue_since(policy, now)
    missing = ring.shortfall(now, policy)
    most = ring.most_published(policy, now)
    return [
        *([f"key rotation has been overdue since {instant(overdue)}"] if overdue else []),
        *([f"{missing} of {policy.standby_keys} standby keys are missing"] if missing else []),
        *([_too_many(most)] if most > PUBLISHED_MOST else []),
    ]


def _too_many(most: int) -> str:
    return (
        f"up to {most} keys will be published at once, and verifiers read at most {PUBLISHED_MOST}: make"
        " ISSUER_ROTATION_PERIOD longer, or ISSUER_ACCESS_TOKEN_LIFETIME shorter"
    )


class Node:
    """One process's view of the ring: refreshed every second, judged at each use."""

    def __init__(
        self,
        rotation: Rotation,
        signer: Signer,
        heartbeats: HeartbeatStore,
        policy: Policy,
        clock: Clock,
        name: str,
        storage_error: Callable[[], KeyUnavailable | None] = lambda: None,
    ) -> None:
        self._rotation = rotation
        self._signer = signer
        self._heartbeats = heartbeats
        self._policy = policy
        self._clock = clock
        self.name = name
        self._storage_error = storage_error
        self._view: View | None = None
        self._beat: Heartbeat | None = None
        self._failure: Failure | None = None
        self._missing: list[str] = []
        self._audit_error: str | None = None

    @property
    def has_seen_ring(self) -> bool:
        """Whether this node has seen the key ring at all."""
        return self._view is not None

    @property
    def view(self) -> View:
        """The latest view; raise StaleView before the first."""
        if self._view is None:
            raise StaleView("this node has not seen the key ring yet")
        return self._view

    def refresh(self) -> View:
        """Do what is due, open every key that may sign, and replace the view as a whole.

        Raise KeyRingError or StoreError; the view then stays as old as it is. A key that does not open stops a
        node from starting. One that runs goes on publishing what the ring says, so that a revocation counts, and
        signs as long as the current key opens.
        """
        try:
            complaints = self._refreshed()
        except Exception as error:
            known = isinstance(error, KeyRingError | StoreError)
            self._complain(str(error) if known else "an internal error; see the log")
            raise
        if complaints:
            self._complain("; ".join(complaints))
        else:
            self._failure = None
        return self.view

    @property
    def failure(self) -> Failure | None:
        """The failure of the latest refresh, or that it has not finished."""
        view = self.view
        # A view from after now counts as old, as it does where it is used: the clock was set back since.
        if self._failure is None and abs(self._clock() - view.refreshed_at) > 3 * REFRESH_INTERVAL:
            return Failure(
                view.refreshed_at,
                "the refresh of the key ring has not finished: the database, the disk or the PKCS#11 token may hang",
            )
        return self._failure

    def warnings(self, *, in_detail: bool = True) -> list[str]:
        """Return what an operator should know although the node can do its work.

        The reason of a failure may name addresses and paths; without `in_detail` the text refers to the log.
        """
        now, trouble = self._clock(), self.failure
        reason = trouble.reason if trouble and in_detail else "the key ring needs attention; see the log"
        return [
            *([f"since {instant(trouble.since)}: {reason}"] if trouble else []),
            *([clock] if (clock := self._rotation.clock_warning()) else []),
            *ring_warnings(self.view.ring, self._policy, now),
        ]

    @property
    def clock_ahead(self) -> timedelta | None:
        """By how much this clock is ahead of the database's; None where the database has none of its own."""
        return self._rotation.clock_ahead

    def leave(self) -> None:
        """Tell the others that this process serves no more."""
        if self._beat:
            now = self._clock()
            self._heartbeats.beat(self._beat.last(now), now - self._policy.clock_skew)

    def _complain(self, reason: str) -> None:
        since = self._failure.since if self._failure else self._clock()
        self._failure = Failure(since, reason)

    def _refreshed(self) -> list[str]:
        seen_at = self._clock()
        self._rotation.require_clock()
        # Before we look: a revocation right after that waits for who has begun, or comes back from silence.
        self._send_heartbeat(self._view.ring.version if self._view else 0, seen_at)
        ring = self._rotation.reconcile(starting=self._view is None)
        self._require_true(ring)
        opened, complaints = self._opened(ring, seen_at)
        if complaints and self._rotation.ring().version != ring.version:
            return self._refreshed()  # a key was revoked in this very moment
        if complaints and self._view is None:
            raise KeyUnavailable("; ".join(complaints))
        self._take_up(ring, seen_at, opened)
        private_keys, storage_error = self._rotation.private_keys, self._storage_error()
        if self._audit_error:  # until an operator has accepted it
            self._audit_error = private_keys.audit_error()
        unstorable = str(storage_error) if storage_error else None  # told before the next key is needed
        others = (
            self._rotation.generation_error,
            unstorable,
            private_keys.checkpoint_error,
            self._audit_error,
        )
        return [*complaints, *self._missing, *filter(None, others), *private_keys.destruction_errors.values()]

    def _require_true(self, ring: KeyRing) -> None:
        """Refuse a ring that cannot be the one that nodes saved; look at each version once."""
        seen = self._view.ring.version if self._view else 0
        if ring.version < seen:
            raise DatabaseDamaged(
                f"the key ring went back from version {seen} to {ring.version}: if you restored a backup, restart"
                " the nodes; otherwise find out who can write to the database"
            )
        if ring.version == seen:
            return
        for key in ring.keys:
            require_sound(key)
        self._missing = self._missed(ring)
        self._audit_error = self._rotation.private_keys.audit_error()

    def _missed(self, ring: KeyRing) -> list[str]:
        """Return a complaint for each published key whose private key is not here."""
        try:
            kept = self._signer.kept()
        except KeyUnavailable as error:
            return [str(error)]
        here = kept | {key.kid for key in ring.standbys(ring.changed_at)}
        return [
            f"{key.kid} is published but its private key is not here: it was lost, or somebody put the key into the"
            f" ring; if you do not know it: issuer keys revoke {key.kid} --reason TEXT"
            for key in ring.published_keys(ring.changed_at)
            if key.kid not in here
        ]

    def _opened(self, ring: KeyRing, now: datetime) -> tuple[frozenset[str], list[str]]:
        """Open every key that may sign, and let it; return which did, and what is wrong with the others."""
        opened, complaints = set(), []
        for key in (ring.current(now), *ring.standbys(now)):
            try:
                self._signer.load(key.kid, key.alg)
                self._signer.sign(key.kid, b"a token may be away")
            except KeyUnavailable as error:
                complaints.append(str(error))
            else:
                opened.add(key.kid)
        return frozenset(opened), complaints

    def _take_up(self, ring: KeyRing, seen_at: datetime, opened: frozenset[str]) -> None:
        before = self._view
        # The others reckon by the heartbeat when this node stops: until it is sent, the view is as old as before.
        self._view = View(ring, before.refreshed_at if before else seen_at, opened)
        self._send_heartbeat(ring.version, seen_at)
        self._view = View(ring, seen_at, opened)
        # A request under way may be about to sign by the view before.
        leaving = {before.ring.current(before.refreshed_at).kid} if before else set()
        self._signer.unload_all_but(leaving | opened)

    def _send_heartbeat(self, version: int, now: datetime) -> None:
        last, policy = self._beat, self._policy
        if last and last.version == version and abs(now - last.refreshed_at) < policy.heartbeat_interval:
            return
        process_id = last.id if last else str(uuid.uuid4())
        beat = Heartbeat.of(process_id, self.name, version, policy, now)
        self._heartbeats.beat(beat, now - policy.clock_skew)
        self._beat = beat
