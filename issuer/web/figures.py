"""What a process counts and measures as it happens: each figure declared once, with the labels that it may have.

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

from issuer.connections import Cause
from issuer.counting import VARIABLE
from issuer.oauth import ErrorCode, GrantType

OTHER = "other"
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


class Figures:
    """Counts for one process; every method may be called from any thread, and costs a microsecond or two."""

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
        self.replays = counter(
            "issuer_refresh_token_replays",
            "Used refresh tokens that came after their grace or from another address, and ended a session",
        )
        self._repeats = counter(
            "issuer_refresh_token_repeats",
            "Used refresh tokens that came again within their grace: answered once more, or refused",
            ["outcome"],
        )
        for outcome in ("answered", "refused"):
            self._repeats.labels(outcome)  # 0 before the first
        self.turned_away = counter(
            "issuer_hashing_turned_away",
            "Requests refused because too many waited for a hashing thread",
        )
        self.refresh_failures = counter(
            "issuer_key_ring_refresh_failures",
            "How often a process could not refresh its view of the key ring",
        )
        self.hashing = gauge(
            "issuer_hashing_jobs",
            "Requests that hash a password or wait for a thread to do so",
            multiprocess_mode="livesum",
        )
        self.trouble = gauge(
            "issuer_key_ring_trouble_seconds",
            "For how long a process has been unable to care for the key ring, the longest; 0 if all are able",
            multiprocess_mode="livemax",
        )
        self._issued, self._refusals, self._key_sets = _Counts(issued), _Counts(refusals), _Counts(key_sets)
        self._connections = _Counts(connections)
        self._took = {kind: transactions.labels(kind).observe for kind in ("read", "write")}
        for labels in _FROM_THE_START:
            self._refusals[labels]  # asking makes it
        for reason in Cause:
            self._connections[(reason.value,)]

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
        self._issued[grant, kid]()

    def refused(self, scope: Any, reason: str) -> None:
        """Count a refusal; `reason` is an error code of ours, and scope["grant"] what the endpoint put there."""
        route, path = scope.get("route"), scope["path"]
        endpoint = getattr(route, "path", OTHER) if route else path if path in self._direct else OTHER
        self._refusals[endpoint, scope.get("grant", ""), reason]()

    def repeated(self, outcome: str) -> None:
        """Count a used refresh token that came again within its grace: `answered` or `refused`."""
        self._repeats.labels(outcome).inc()

    def connection_refused(self, reason: str) -> None:
        """Count what `issuer.connections` refused or closed; `reason` is one of its reasons."""
        self._connections[(reason,)]()

    def key_set(self, status: str, version: int) -> None:
        """Count a request for the JWKS."""
        self._key_sets[status, version]()

    def transaction(self, kind: str, seconds: float) -> None:
        """Take note of how long a transaction took: a `read` or a `write`."""
        self._took[kind](seconds)

    def collect(self) -> Iterable[Metric]:
        """Return the figures of all processes that write to one directory, or else of this one."""
        if VARIABLE in os.environ:
            return MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call, no-any-return]
        return self._registry.collect()
