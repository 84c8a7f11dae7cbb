"""The heartbeat of a process that serves, and which processes have picked up a version of the key ring.

Storing heartbeats is the work of `heartbeat_store`, sending them that of `node`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from issuer.keyring.policy import Policy


@dataclass(frozen=True)
class Heartbeat:
    """One process of a node: the ring version that it acknowledges, and what it can still do if it falls silent."""

    id: str
    name: str
    version: int
    refreshed_at: datetime
    signs_until: datetime
    served_until: datetime
    """When the last document that it can have served runs out in caches."""
    max_age: timedelta

    @classmethod
    def of(cls, process_id: str, name: str, version: int, policy: Policy, now: datetime) -> Self:
        """Return the heartbeat at `now` of a process under `policy`; the next one comes within the interval."""
        silent = now + policy.heartbeat_interval
        return cls(
            id=process_id,
            name=name,
            version=version,
            refreshed_at=now,
            signs_until=silent + policy.node_timeout,
            served_until=silent + policy.publish_without_database + policy.max_age,
            max_age=policy.max_age,
        )

    def last(self, now: datetime) -> Self:
        """Return the heartbeat of the process when it ends: what it served stays valid for a while."""
        return replace(self, refreshed_at=now, signs_until=now, served_until=now + self.max_age)

    @property
    def has_left(self) -> bool:
        """Whether this is the heartbeat of a process that ended and said so."""
        return self.signs_until == self.refreshed_at


@dataclass(frozen=True)
class Acknowledgement:
    """Which processes have picked up one version of the ring, as told by heartbeats at one instant."""

    done: tuple[Heartbeat, ...]
    waiting: tuple[Heartbeat, ...]
    """They have not, and may still sign: worth waiting for."""
    silent: tuple[Heartbeat, ...]
    """They have not, and documents that they served may be alive."""
    refused_from: datetime
    """From then on every verifier that honours max-age refuses what the version revoked.

    M + S from now for those that have picked it up, each by its own max-age; the others for as long as what they
    served may live.
    """

    @classmethod
    def of(cls, beats: Iterable[Heartbeat], version: int, policy: Policy, now: datetime) -> Self:
        """Return it for `version` at `now`."""
        done: list[Heartbeat] = []
        behind: list[Heartbeat] = []
        for beat in beats:
            if beat.served_until + policy.clock_skew > now:
                (done if beat.version >= version else behind).append(beat)
        silent = [beat for beat in behind if not beat.has_left]
        waiting = [beat for beat in silent if beat.signs_until + policy.clock_skew > now]
        lasting = [beat.served_until for beat in behind] + [now + beat.max_age for beat in done]
        # By the M of who asks at least: a database restored from a backup lacks the heartbeats since.
        refused_from = max([now + policy.max_age, *lasting]) + policy.clock_skew
        running = tuple(beat for beat in done if not beat.has_left)
        return cls(running, tuple(waiting), tuple(silent), refused_from)
