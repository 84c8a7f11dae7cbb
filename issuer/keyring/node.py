"""A node of the issuer: its copy of the key ring, refreshed every second, and warnings for operators.

Changing the ring is left to `rotation`, and what a node may do with its copy to `view`.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

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

LOADS: Final = 5
"""How often the ring is loaded in one refresh if it changes while keys are opened."""


@dataclass(frozen=True)
class Failure:
    """Why the key ring could not be maintained, and since when; `reason` says what to do."""

    since: datetime
    reason: str


@dataclass(frozen=True)
class _Loaded:
    """The ring as it was loaded, and which of the keys that may sign could be opened."""

    ring: KeyRing
    seen_at: datetime
    opened: frozenset[str]
    errors: list[str]
    """Why the others could not be opened."""


def ring_warnings(
    ring: KeyRing, policy: Policy, now: datetime, maintained_at: datetime | None = None
) -> list[str]:
    """Return what is overdue in the ring, and what was missing after its last maintenance; by default that is now."""
    overdue = ring.overdue_since(policy, now)
    missing = ring.shortfall(maintained_at or now, policy)
    return [
        *([f"key rotation has been overdue since {instant(overdue)}"] if overdue else []),
        *([f"{missing} of {policy.standby_keys} standby keys are missing"] if missing else []),
    ]


def too_many_keys(ring: KeyRing, policy: Policy, now: datetime) -> str | None:
    """Return why verifiers will refuse the key set, or None."""
    most = ring.most_published(policy, now)
    if most <= PUBLISHED_MOST:
        return None
    return (
        f"up to {most} keys will be published at once, and verifiers read at most {PUBLISHED_MOST}: make"
        " ISSUER_ROTATION_PERIOD longer, or ISSUER_ACCESS_TOKEN_LIFETIME shorter"
    )


class Node:
    """One process's view of the ring: refreshed every second, and checked at each use."""

    def __init__(
        self,
        rotation: Rotation,
        signer: Signer,
        heartbeats: HeartbeatStore,
        policy: Policy,
        clock: Clock,
        name: str,
        storage_error: Callable[[], KeyUnavailable | None] = lambda: None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._rotation = rotation
        self._signer = signer
        self._heartbeats = heartbeats
        self._policy = policy
        self._clock = clock
        self.name = name
        self._storage_error = storage_error
        self._settings = settings
        self._view: View | None = None
        self._heartbeat: Heartbeat | None = None
        self._failure: Failure | None = None
        self._missing: list[str] = []
        self._audit_error: str | None = None
        self._seen_version: object = None

    @property
    def has_seen_ring(self) -> bool:
        """Whether a refresh has succeeded since the process started."""
        return self._view is not None

    @property
    def view(self) -> View:
        """The latest view; raise StaleView before the first."""
        if self._view is None:
            raise StaleView("this node has not read the key ring yet")
        return self._view

    def refresh(self) -> View:
        """Do what is due, open every key that may sign, and replace the view as a whole.

        Raise KeyRingError or StoreError; the view then stays as old as it is. A key that does not open prevents the
        first refresh. Later, the node continues to publish what the ring says, so that a revocation takes effect, and
        signs as long as the current key opens.
        """
        try:
            errors = self._refresh()
        except Exception as error:
            known = isinstance(error, KeyRingError | StoreError)
            self._record_failure(str(error) if known else "an internal error; see the log")
            raise
        if errors:
            self._record_failure("; ".join(errors))
        else:
            self._failure = None
        return self.view

    def sees_change(self) -> bool:
        """Whether another process has changed the ring since the last refresh, and since this was last asked.

        It costs one read of an integer. A change that cannot be loaded is seen once.
        """
        version, seen = self._rotation.version(), self._seen_version
        self._seen_version = version
        return version not in {seen, self.view.ring.version}

    @property
    def failure(self) -> Failure | None:
        """The failure of the latest refresh, or that it has not finished."""
        view = self.view
        # A view from the future counts as old, as it does in `View`: the clock was set back since.
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
        now, failure = self._clock(), self.failure
        reason = failure.reason if failure and in_detail else "the key ring needs attention; see the log"
        return [
            *([f"since {instant(failure.since)}: {reason}"] if failure else []),
            *([clock] if (clock := self._rotation.clocks.warning()) else []),
            # A standby that is missing since the last refresh is created by the next one.
            *ring_warnings(self.view.ring, self._policy, now, self.view.refreshed_at),
            *([crowded] if (crowded := too_many_keys(self.view.ring, self._policy, now)) else []),
        ]

    def leave(self) -> None:
        """Announce to the other nodes that this process has ended."""
        if self._heartbeat:
            now = self._clock()
            self._heartbeats.beat(self._heartbeat.last(now), now - self._policy.clock_skew)

    def _record_failure(self, reason: str) -> None:
        since = self._failure.since if self._failure else self._clock()
        self._failure = Failure(since, reason)

    def _refresh(self) -> list[str]:
        """Replace the view, and return the errors that did not prevent it."""
        loaded = self._load()
        if loaded.errors and self._view is None:
            raise KeyUnavailable("; ".join(loaded.errors))
        self._activate(loaded)
        checkpoint, private_keys = self._rotation.checkpoint, self._rotation.private_keys
        if self._audit_error:  # until an operator has accepted the audit log
            self._audit_error = checkpoint.audit_error()
        storage_error = self._storage_error()  # reported before the next key is needed
        optional = (
            self._rotation.generation_error,
            str(storage_error) if storage_error else None,
            checkpoint.error,
            self._audit_error,
        )
        return [
            *loaded.errors,
            *self._missing,
            *filter(None, optional),
            *private_keys.destruction_errors.values(),
        ]

    def _load(self) -> _Loaded:
        """Load the ring with all that is due, and open its keys; repeat this if the ring changed meanwhile."""
        for _ in range(LOADS):
            seen_at = self._clock()
            self._rotation.clocks.require()
            # Before the ring is loaded: an operator who revokes a key right after that waits for this process.
            self._announce(self._view.ring.version if self._view else 0, seen_at)
            ring = self._rotation.reconcile(starting=self._view is None)
            self._require_plausible(ring)
            opened, errors = self._open(ring, seen_at)
            if not errors or self._rotation.ring().version == ring.version:
                break  # otherwise the key that does not open may have just been revoked
        return _Loaded(ring, seen_at, opened, errors)

    def _require_plausible(self, ring: KeyRing) -> None:
        """Refuse a ring that this program cannot have saved; check each version once."""
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
        self._missing = self._missing_keys(ring)
        self._audit_error = self._rotation.checkpoint.audit_error()

    def _missing_keys(self, ring: KeyRing) -> list[str]:
        """Return an error for each published key whose private key is missing."""
        try:
            kept = self._signer.kept()
        except KeyUnavailable as error:
            return [str(error)]
        here = kept | {key.kid for key in ring.standbys(ring.changed_at)}
        return [
            f"{key.kid} is published but its private key is missing: it was lost, or an attacker added the key to the"
            f" ring; if you do not know it: issuer keys revoke {key.kid} --reason TEXT"
            for key in ring.published_keys(ring.changed_at)
            if key.kid not in here
        ]

    def _open(self, ring: KeyRing, now: datetime) -> tuple[frozenset[str], list[str]]:
        """Open every key that may sign; return the kids of those that signed, and the errors of the others."""
        opened, errors = set(), []
        for key in (ring.current(now), *ring.standbys(now)):
            try:
                self._signer.load(key.kid, key.alg)
                self._signer.sign(key.kid, b"detects a token that was removed")
            except KeyUnavailable as error:
                errors.append(str(error))
            else:
                opened.add(key.kid)
        return frozenset(opened), errors

    def _activate(self, loaded: _Loaded) -> None:
        """Use the loaded ring, announce its version, and only then mark the view as refreshed.

        If this process stops responding, the others compute from its last heartbeat until when it may sign: the view
        must not be newer than the heartbeat.
        """
        before = self._view
        refreshed_at = before.refreshed_at if before else loaded.seen_at
        self._view = View(loaded.ring, refreshed_at, loaded.opened)
        self._announce(loaded.ring.version, loaded.seen_at)
        self._view = replace(self._view, refreshed_at=loaded.seen_at)
        # A request in progress may be about to sign by the view before.
        in_use = {before.ring.current(before.refreshed_at).kid} if before else set()
        self._signer.unload_all_but(in_use | loaded.opened)

    def _announce(self, version: int, now: datetime) -> None:
        """Send a heartbeat that acknowledges `version`, unless the last one did and is recent."""
        last, policy = self._heartbeat, self._policy
        if last and last.version == version and abs(now - last.refreshed_at) < policy.heartbeat_interval:
            return
        process_id = last.id if last else str(uuid.uuid4())
        heartbeat = Heartbeat.of(process_id, self.name, version, policy, now, self._settings)
        self._heartbeats.beat(heartbeat, now - policy.clock_skew)
        self._heartbeat = heartbeat
