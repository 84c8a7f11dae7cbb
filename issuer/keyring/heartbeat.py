"""The heartbeat of a process, and which processes have acknowledged a version of the key ring.

Storing heartbeats is left to `heartbeat_store`, sending them to `node`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from issuer.keyring.policy import Policy


@dataclass(frozen=True)
class Heartbeat:
    """The ring version that a process acknowledges, and until when it may sign and publish without another."""

    id: str
    name: str
    version: int
    refreshed_at: datetime
    signs_until: datetime
    served_until: datetime
    """When the last key set that it may have served expires in caches."""
    max_age: timedelta
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The values of the settings that must be the same at every process."""

    @classmethod
    def of(
        cls,
        process_id: str,
        name: str,
        version: int,
        policy: Policy,
        now: datetime,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the heartbeat of a process at `now`; the next one is due within the interval of `policy`."""
        next_at = now + policy.heartbeat_interval
        return cls(
            id=process_id,
            name=name,
            version=version,
            refreshed_at=now,
            signs_until=next_at + policy.node_timeout,
            served_until=next_at + policy.publish_without_database + policy.max_age,
            max_age=policy.max_age,
            settings=settings or {},
        )

    def last(self, now: datetime) -> Self:
        """Return the heartbeat of the process as it ends: key sets that it served remain in caches."""
        return replace(self, refreshed_at=now, signs_until=now, served_until=now + self.max_age)

    @property
    def has_left(self) -> bool:
        """Whether the process has ended and sent its last heartbeat."""
        return self.signs_until == self.refreshed_at


@dataclass(frozen=True)
class Acknowledgement:
    """Which processes have acknowledged a version of the ring at one instant."""

    done: tuple[Heartbeat, ...]
    waiting: tuple[Heartbeat, ...]
    """Processes that have not, and may still sign."""
    silent: tuple[Heartbeat, ...]
    """Processes that have not, and whose key sets may be in caches; `waiting` is a part of them."""
    refused_from: datetime
    """From then on every verifier that honours max-age refuses the keys that the version revoked.

    For a process that acknowledged it, now + M + S with the process's own M; for any other, `served_until` + S.
    """

    @classmethod
    def of(cls, beats: Iterable[Heartbeat], version: int, policy: Policy, now: datetime) -> Self:
        """Return the acknowledgement of `version` at `now`."""
        done: list[Heartbeat] = []
        behind: list[Heartbeat] = []
        for beat in beats:
            if beat.served_until + policy.clock_skew > now:
                (done if beat.version >= version else behind).append(beat)
        silent = [beat for beat in behind if not beat.has_left]
        waiting = [beat for beat in silent if beat.signs_until + policy.clock_skew > now]
        cached_until = [beat.served_until for beat in behind] + [now + beat.max_age for beat in done]
        # At least M of this process: a restored database lacks the heartbeats sent since the backup.
        refused_from = max([now + policy.max_age, *cached_until]) + policy.clock_skew
        running = tuple(beat for beat in done if not beat.has_left)
        return cls(running, tuple(waiting), tuple(silent), refused_from)
