"""What a process counts and measures as it happens: each metric declared once, with the labels that it may have.

Where PROMETHEUS_MULTIPROC_DIR names a directory, each process writes there, and any of them can tell the sum; that
must be so before prometheus-client is imported. What is told of the key ring, and written, is `metrics`' work.

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
from issuer.counting import VARIABLE
from issuer.oauth import ErrorCode, GrantType
from issuer.web.shared_values import share_values

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
"""Refusals that alerts ask for: 0 before the first, as a rate needs to begin somewhere."""


class _Counts(dict[tuple[object, ...], Callable[[], None]]):
    """What counts one more, by the values of the labels; kept, as finding it costs more than counting."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    def __missing__(self, labels: tuple[object, ...]) -> Callable[[], None]:
        self[labels] = count = self._counter.labels(*labels).inc
        return count

    def add(self, *labels: object) -> None:
        """Count one more."""
        self[labels]()


class Figures:
    """Counts for one process; every method may be called from any thread, and costs a microsecond or two.

    None raises: what cannot be counted changes nothing of what is done.
    """

    def __init__(self, direct: Iterable[str] = ()) -> None:
        """Take the paths that are answered without a route."""
        self._direct = frozenset(direct)
        self._registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        issued = counter("issuer_tokens_issued", "Access tokens issued", ["grant", "kid"])
        refusals = counter("issuer_refusals", "Requests refused", ["endpoint", "grant", "reason"])
        connections = counter(
            "issuer_connections_refused",
            "Requests refused and connections closed before the application saw a request",
            ["reason"],
        )
        told = "Requests for the JWKS, by status and by the version of the key ring it was answered from"
        key_sets = counter("issuer_jwks_requests", told, ["status", "version"])
        name, told = "issuer_database_transaction_seconds", "How long transactions took, waits included"
        transactions = Histogram(name, told, ["kind"], registry=registry, buckets=BUCKETS)
        self._replays = counter(
            "issuer_refresh_token_replays",
            "Used refresh tokens presented after the grace period or from another address, which ended a session",
        )
        self._repeats = counter(
            "issuer_refresh_token_repeats",
            "Used refresh tokens presented again within the grace period: answered once more, or refused",
            ["outcome"],
        )
        for outcome in ("answered", "refused"):
            self._repeats.labels(outcome)  # 0 before the first
        self._turned_away = counter(
            "issuer_hashing_turned_away",
            "Requests refused because the password hashing queue was full",
        )
        self._refresh_failures = counter(
            "issuer_key_ring_refresh_failures",
            "Failed refreshes of a process's view of the key ring",
        )
        told = "Background tasks that ended unexpectedly and were restarted"
        self._restarts = counter("issuer_background_restarts", told, ["task"])
        self._lines_lost = counter("issuer_log_lines_lost", "Log lines that could not be written")
        self._silence = gauge(
            "issuer_background_silence_seconds",
            "For how long a background task has been without a heartbeat, the longest of all processes",
            ["task"],
            multiprocess_mode="livemax",
        )
        self.hashing = gauge(
            "issuer_hashing_jobs",
            "Requests that hash a password or wait in the hashing queue",
            multiprocess_mode="livesum",
        )
        self.trouble = gauge(
            "issuer_key_ring_trouble_seconds",
            "For how long reconciling the key ring has been failing, the longest of all processes; 0 if it works",
            multiprocess_mode="livemax",
        )
        self._issued, self._refusals, self._key_sets = _Counts(issued), _Counts(refusals), _Counts(key_sets)
        self._connections = _Counts(connections)
        self._took = {kind: transactions.labels(kind).observe for kind in ("read", "write")}
        for labels in _FROM_THE_START:
            self._refusals[labels]  # asking makes it
        for reason in Cause:
            self._connections[(reason.value,)]
        for task in BACKGROUND_TASKS:
            self._restarts.labels(task)
            self._silence.labels(task)

    @staticmethod
    def of(request: Request) -> "Figures":
        """Return those of the application that answers `request`."""
        figures: Figures = request.app.state.figures
        return figures

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
        """Count a used refresh token that came again after its grace."""
        notify(self._replays.inc)

    def turned_away(self) -> None:
        """Count a request that was refused because too many waited for a hashing thread."""
        notify(self._turned_away.inc)

    def refresh_failed(self) -> None:
        """Count a refresh of the view of the key ring that failed."""
        notify(self._refresh_failures.inc)

    def restarted(self, task: str) -> None:
        """Count a background task that ended and was started again."""
        notify(lambda: self._restarts.labels(task).inc())

    def silent_for(self, task: str, seconds: float) -> None:
        """Take note of how long a background task has shown no sign of life."""
        notify(lambda: self._silence.labels(task).set(seconds))

    def lines_lost(self, count: int) -> None:
        """Count lines of the log that could not be written."""
        notify(self._lines_lost.inc, count)

    def repeated(self, outcome: str) -> None:
        """Count a used refresh token that came again within its grace: `answered` or `refused`."""
        notify(lambda: self._repeats.labels(outcome).inc())

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
