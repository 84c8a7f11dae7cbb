"""Keeping the ring in view: what each process that serves does every second, and what is wrong when it cannot.

Changing the ring is `rotation`'s work, and what a view allows is told in `nodes`.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from issuer.keyring import Key, KeyRing, KeyUnavailable, StaleView
from issuer.nodes import Heartbeat, View
from issuer.policy import Policy, instant
from issuer.rotation import Clock, Rotation
from issuer.signing import Signer
from issuer.signing.proof import require_own_name
from issuer.store.heartbeats import HeartbeatStore


@dataclass(frozen=True)
class Trouble:
    """Why the ring could not be cared for, and since when; `reason` says what to do."""

    since: datetime
    reason: str


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
    ) -> None:
        self._rotation = rotation
        self._signer = signer
        self._heartbeats = heartbeats
        self._policy = policy
        self._clock = clock
        self._name = name
        self._view: View | None = None
        self._beat: Heartbeat | None = None
        self.trouble: Trouble | None = None
        """What went wrong at the latest refresh."""
        self.failures = 0
        """How many refreshes went wrong."""

    @property
    def view(self) -> View:
        """The latest view; raise StaleView before the first."""
        if self._view is None:
            raise StaleView("this node has not seen the key ring yet")
        return self._view

    def refresh(self) -> View:
        """Do what is due, make ready every key that may sign, and take up the view as a whole.

        Raise KeyRingError or StoreError; the view then stays as old as it is. A standby that does not open stops
        a node from starting, but not from going on: there is time to mend it until its turn.
        """
        try:
            view, complaints = self._refreshed()
        except Exception as error:
            self.failures += 1
            self._complain(str(error))
            raise
        if complaints:
            self._complain("; ".join(complaints))
        else:
            self.trouble = None
        return view

    def warnings(self) -> list[str]:
        """Return what an operator should know although the node can do its work."""
        now = self._clock()
        overdue = self.view.ring.overdue_since(self._policy, now)
        missing = self.view.ring.shortfall(now, self._policy)
        return [
            *([f"since {instant(self.trouble.since)}: {self.trouble.reason}"] if self.trouble else []),
            *([f"the rotation has been overdue since {instant(overdue)}"] if overdue else []),
            *([f"the ring lacks {missing} of {self._policy.standby_keys} standbys"] if missing else []),
        ]

    def leave(self) -> None:
        """Tell the others that this process serves no more."""
        if self._beat:
            self._heartbeats.remove(self._beat.id)

    def _complain(self, reason: str) -> None:
        since = self.trouble.since if self.trouble else self._clock()
        self.trouble = Trouble(since, reason)

    def _refreshed(self) -> tuple[View, list[str]]:
        seen_at = self._clock()
        ring = self._rotation.reconcile(starting=self._view is None)
        for key in ring.keys:
            require_own_name(key)
        try:
            self._load(ring.current(seen_at))
        except KeyUnavailable:
            again = self._rotation.reconcile()
            if again.version == ring.version:
                raise
            ring = again  # it was revoked in this very moment
            self._load(ring.current(seen_at))
        complaints = self._load_standbys(ring, seen_at)
        self._take_up(ring, seen_at)
        return self.view, [*complaints, *self._rotation.undestroyed.values()]

    def _load(self, key: Key) -> None:
        self._signer.load(key.kid, key.alg)

    def _load_standbys(self, ring: KeyRing, now: datetime) -> list[str]:
        complaints = []
        for key in ring.standbys(now):
            try:
                self._load(key)
            except KeyUnavailable as error:
                if self._view is None:
                    raise
                complaints.append(f"the standby {key.kid} cannot sign when its turn comes: {error}")
        return complaints

    def _take_up(self, ring: KeyRing, seen_at: datetime) -> None:
        before = self._view
        # The others reckon by the heartbeat when this node stops: until it is sent, the view is as old as before.
        self._view = View(ring, before.refreshed_at if before else seen_at)
        self._send_heartbeat(ring.version, seen_at)
        self._view = View(ring, seen_at)
        # A request under way may be about to sign by the view before.
        leaving = {before.ring.current(before.refreshed_at).kid} if before else set()
        may_sign = {key.kid for key in (ring.current(seen_at), *ring.standbys(seen_at))}
        self._signer.unload_all_but(leaving | may_sign)

    def _send_heartbeat(self, version: int, now: datetime) -> None:
        last = self._beat
        due = last is None or last.version != version
        if not due and last and now - last.refreshed_at < self._policy.heartbeat_interval:
            return
        beat = Heartbeat(last.id if last else str(uuid.uuid4()), self._name, version, now)
        self._heartbeats.beat(beat)
        self._beat = beat
        if last is None:
            for other in self._heartbeats.all():
                if (
                    other.published_until(self._policy) < now
                ):  # ended without a word, and nothing of it lives on
                    self._heartbeats.remove(other.id)
