"""What a process counts and measures as it happens: each metric declared once, with the labels that it may have.

Where PROMETHEUS_MULTIPROC_DIR names a directory, each process writes there, and any of them can tell the sum; that
must be so before prometheus-client is imported. Metrics of the key ring, and the text format, are left to `metrics`.

No label has values that a stranger can choose: grants and endpoints are those that there are, or none.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from issuer.callbacks import notify
from issuer.connections import Cause
from issuer.metrics_directory import VARIABLE
from issuer.oauth import ErrorCode, GrantType
from issuer.web.metric_values import share_values

if VARIABLE in os.environ:
    share_values()

OTHER = "other"
BACKGROUND_TASKS = ("refresh", "watch", "prune")
BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: from a lookup in SQLite's cache to the wait that is given up."""
_GRANTS = frozenset(grant.value for grant in GrantType)
_FROM_THE_START = [
    *(
        ("/oauth2/token", grant.value, code.value)
        for grant in GrantType
        for code in (ErrorCode.INVALID_CLIENT, ErrorCode.INVALID_GRANT, ErrorCode.TOO_MANY_ATTEMPTS)
    ),
    ("/login", GrantType.PASSWORD.value, ErrorCode.INVALID_GRANT.value),
    ("/login", GrantType.PASSWORD.value, ErrorCode.TOO_MANY_ATTEMPTS.value),
]
"""Refusals that alerts ask for."""


class _Counts(dict[tuple[object, ...], Callable[[], None]]):
    """What counts one more, by the values of the labels; kept, as finding it costs more than counting.

    Those `from_the_start` are 0 before the first, as a rate needs to begin somewhere.
    """

    def __init__(self, counter: Counter, from_the_start: Iterable[tuple[str, ...]] = ()) -> None:
        super().__init__()
        self._counter = counter
        for labels in from_the_start:
            self[labels]  # a lookup creates it

    def __missing__(self, labels: tuple[object, ...]) -> Callable[[], None]:
        self[labels] = count = self._counter.labels(*labels).inc
        return count

    def add(self, *labels: object) -> None:
        """Count one more."""
        self[labels]()


class Instruments:
    """Counts for one process; every method may be called from any thread, and costs a microsecond or two.

    None raises: what cannot be counted changes nothing of what is done.
    """

    def __init__(self, direct: Iterable[str] = ()) -> None:
        """Take the paths that are answered without a route."""
        self._direct = frozenset(direct)
        self._registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._count_requests(counter)
        self._count_sessions(counter)
        self._watch_process(counter, gauge)
        transactions = Histogram(
            "issuer_database_transaction_seconds",
            "How long transactions took, waits included",
            ["kind"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._took = {kind: transactions.labels(kind).observe for kind in ("read", "write")}

    def _count_requests(self, counter: Callable[..., Counter]) -> None:
        self._issued = _Counts(counter("issuer_tokens_issued", "Access tokens issued", ["grant", "kid"]))
        self._refusals = _Counts(
            counter("issuer_refusals", "Requests refused", ["endpoint", "grant", "reason"]), _FROM_THE_START
        )
        self._connections = _Counts(
            counter(
                "issuer_connections_refused",
                "Requests refused and connections closed before the application saw a request",
                ["reason"],
            ),
            [(reason.value,) for reason in Cause],
        )
        self._key_sets = _Counts(
            counter(
                "issuer_jwks_requests",
                "Requests for the JWKS, by status and by the version of the key ring it was answered from",
                ["status", "version"],
            )
        )
        self._turned_away = counter(
            "issuer_hashing_turned_away",
            "Requests refused because the password hashing queue was full",
        )

    def _count_sessions(self, counter: Callable[..., Counter]) -> None:
        self._replays = counter(
            "issuer_refresh_token_replays",
            "Used refresh tokens that came after their grace or from another address, and ended a session",
        )
        self._repeats = _Counts(
            counter(
                "issuer_refresh_token_repeats",
                "Used refresh tokens that were presented again within their grace: answered once more, or refused",
                ["outcome"],
            ),
            [("answered",), ("refused",)],
        )

    def _watch_process(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self._refresh_failures = counter(
            "issuer_key_ring_refresh_failures",
            "Failed refreshes of a process's view of the key ring",
        )
        self._restarts = _Counts(
            counter(
                "issuer_background_restarts",
                "Background tasks that ended by themselves and were started again",
                ["task"],
            ),
            [(task,) for task in BACKGROUND_TASKS],
        )
        self._lines_lost = counter("issuer_log_lines_lost", "Lines of the log that could not be written")
        self._silence = gauge(
            "issuer_background_silence_seconds",
            "For how long a background task has been without a heartbeat, the longest of all processes",
            ["task"],
            multiprocess_mode="livemax",
        )
        for task in BACKGROUND_TASKS:
            self._silence.labels(task)
        self.hashing = gauge(
            "issuer_hashing_jobs",
            "Requests that hash a password or wait in the hashing queue",
            multiprocess_mode="livesum",
        )
        self.trouble = gauge(
            "issuer_key_ring_trouble_seconds",
            "For how long a process has been unable to maintain the key ring, the longest; 0 if all are able",
            multiprocess_mode="livemax",
        )

    @staticmethod
    def of(request: Request) -> "Instruments":
        """Return those of the application that answers `request`."""
        instruments: Instruments = request.app.state.instruments
        return instruments

    @staticmethod
    def grant(named: str | None) -> str:
        """Return the grant that a request names, or `other`."""
        return named if named in _GRANTS else OTHER

    def issued(self, grant: str, kid: str) -> None:
        """Count an access token; `grant` is one of those there are."""
        notify(self._issued.add, grant, kid)

    def refused(self, scope: Any, reason: str) -> None:
        """Count a refusal; `reason` is an error code of ours, and scope["grant"] what the endpoint put there."""
        route, path = scope.get("route"), scope["path"]
        endpoint = getattr(route, "path", OTHER) if route else path if path in self._direct else OTHER
        notify(self._refusals.add, endpoint, scope.get("grant", ""), reason)

    def replayed(self) -> None:
        """Count a used refresh token that was presented again after its grace."""
        notify(self._replays.inc)

    def turned_away(self) -> None:
        """Count a request that was refused because too many waited for a hashing thread."""
        notify(self._turned_away.inc)

    def refresh_failed(self) -> None:
        """Count a refresh of the view of the key ring that failed."""
        notify(self._refresh_failures.inc)

    def restarted(self, task: str) -> None:
        """Count a background task that ended and was started again."""
        notify(self._restarts.add, task)

    def silent_for(self, task: str, seconds: float) -> None:
        """Take note of how long a background task has shown no sign of life."""
        notify(lambda: self._silence.labels(task).set(seconds))

    def lines_lost(self, count: int) -> None:
        """Count lines of the log that could not be written."""
        notify(self._lines_lost.inc, count)

    def repeated(self, outcome: str) -> None:
        """Count a used refresh token that was presented again within its grace: `answered` or `refused`."""
        notify(self._repeats.add, outcome)

    def connection_refused(self, reason: str) -> None:
        """Count what `issuer.connections` refused or closed; `reason` is one of its reasons."""
        notify(self._connections.add, reason)

    def key_set(self, status: str, version: int) -> None:
        """Count a request for the JWKS."""
        notify(self._key_sets.add, status, version)

    def transaction(self, kind: str, seconds: float) -> None:
        """Take note of how long a transaction took: a `read` or a `write`."""
        self._took[kind](seconds)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes that write to one directory, or else of this one.

        Of this one too where the files cannot be read: somebody removed them, or the disk is broken.
        """
        if VARIABLE in os.environ:
            shared: list[Metric] = []
            notify(lambda: shared.extend(MultiProcessCollector(None).collect()))  # type: ignore[no-untyped-call]
            if shared:
                return shared
        return self._registry.collect()
