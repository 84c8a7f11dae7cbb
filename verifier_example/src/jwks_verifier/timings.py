"""Lifetimes, waiting times and pauses of a cache, with their defaults.

What they govern is left to `cache`, `fetching` and `http_client`; the leeway to `claims`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """Lifetimes, waiting times and pauses, in seconds."""

    ttl_default: float = 300  # for an answer without max-age
    ttl_floor: float = 60  # limits the rate of fetches
    ttl_ceiling: float = 3600  # bounds the delay until a revocation takes effect
    max_stale: float = 3600  # after the ttl; then KeysUnavailable
    refresh_from: float = 0.75  # share of the ttl after which to refresh, chosen at random between this
    refresh_to: float = 0.85  # and this, so that workers started together fetch at different times
    backoff_first: float = 1
    backoff_last: float = 60
    cooldown: float = 10  # from any attempt to a refetch for an unknown kid
    cooldown_empty: float = 1  # the same while EMPTY
    wait: float = 2  # for which a request waits for a fetch
    # In total: timeouts of the HTTP client are per read, so slow responses outlast them.
    fetch_deadline: float = 3
    connect_timeout: float = 1
    leeway: float = 10  # between the clocks of two hosts

    def __post_init__(self) -> None:
        if not 0 < self.ttl_floor <= self.ttl_ceiling:
            raise ValueError("the ttl floor must be above 0 s and not above the ceiling")
