"""The metrics that a process counts and measures as things happen: each declared once, with the labels it may have.

Where PROMETHEUS_MULTIPROC_DIR names a directory, each process writes its values there, and any of them can report the
sum; it must be set before prometheus-client is imported. Metrics of the key ring and the text format are left to
`operation.metrics`.

Callers cannot choose the value of a label: grants and endpoints are known ones, or `other`.
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
OUTCOMES = ("delivered", "failed", "given_up")
"""Of attempts to deliver logout notices and mails."""
BACKGROUND_TASKS = ("refresh", "watch", "prune", "census", "logout", "mail")
BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: from a lookup in SQLite's cache to the timeout of a connection."""
_GRANTS = frozenset(grant.value for grant in GrantType)
_REFUSALS_OF_ALERTS = [
    *(
        ("/oauth2/token", grant.value, code.value)
        for grant in GrantType
        for code in (ErrorCode.INVALID_CLIENT, ErrorCode.INVALID_GRANT, ErrorCode.TOO_MANY_ATTEMPTS)
    ),
    ("/login", GrantType.PASSWORD.value, ErrorCode.INVALID_GRANT.value),
    ("/login", GrantType.PASSWORD.value, ErrorCode.TOO_MANY_ATTEMPTS.value),
]
"""Refusals that alert rules ask for."""


class _LabelledCounter(dict[tuple[object, ...], Callable[[], None]]):
    """A counter with labels; the child of each combination is kept, because a lookup costs more than an increment.

    The `initial` combinations are exported as 0 from the start, so that rates over them are defined.
    """

    def __init__(self, counter: Counter, initial: Iterable[tuple[str, ...]] = ()) -> None:
        super().__init__()
        self._counter = counter
        for labels in initial:
            self[labels]  # a lookup creates the child

    def __missing__(self, labels: tuple[object, ...]) -> Callable[[], None]:
        self[labels] = increment = self._counter.labels(*labels).inc
        return increment

    def add(self, *labels: object) -> None:
        """Increment the counter with these labels."""
        self[labels]()


class Instruments:
    """The metrics of one process; every method may be called from any thread, and takes a microsecond or two.

    No method raises: a failure to count never fails the work that is counted.
    """

    def __init__(self, fast_paths: Iterable[str] = ()) -> None:
        """Take the paths that are answered without a route."""
        self._fast_paths = frozenset(fast_paths)
        self._registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._declare_requests(counter)
        self._declare_sessions(counter)
        self._declare_process(counter, gauge)
        transactions = Histogram(
            "issuer_database_transaction_seconds",
            "Duration of transactions, including waits for locks and connections",
            ["kind"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._transaction_seconds = {kind: transactions.labels(kind).observe for kind in ("read", "write")}

    def _declare_requests(self, counter: Callable[..., Counter]) -> None:
        self._issued = _LabelledCounter(
            counter("issuer_tokens_issued", "Access tokens issued", ["grant", "kid"])
        )
        self._refusals = _LabelledCounter(
            counter("issuer_requests_refused", "Requests refused", ["endpoint", "grant", "reason"]),
            _REFUSALS_OF_ALERTS,
        )
        self._connections = _LabelledCounter(
            counter(
                "issuer_connections_refused",
                "Requests refused and connections closed before the application saw a request",
                ["reason"],
            ),
            [(reason.value,) for reason in Cause],
        )
        self._key_sets = _LabelledCounter(
            counter(
                "issuer_jwks_requests",
                "Requests for the JWKS, by status and by the version of the key ring that was served",
                ["status", "version"],
            )
        )
        self._hashing_rejected = counter(
            "issuer_hashing_rejected",
            "Requests refused because the password hashing queue was full",
        )

    def _declare_sessions(self, counter: Callable[..., Counter]) -> None:
        self._reuses = counter(
            "issuer_refresh_token_reuses",
            "Used refresh tokens presented after the grace period or from another address, which ended a session",
        )
        self._retries = _LabelledCounter(
            counter(
                "issuer_refresh_token_retries",
                "Used refresh tokens presented again within the grace period: answered once more, or refused",
                ["outcome"],
            ),
            [("answered",), ("refused",)],
        )
        self._logouts = counter(
            "issuer_logout_notices",
            "Attempts to tell clients of ended sessions (back-channel logout): delivered, failed, given up",
            ["outcome"],
        )
        self._mails = counter(
            "issuer_mails", "Attempts to send mails to users: delivered, failed, given up", ["outcome"]
        )
        for outcome in OUTCOMES:
            self._logouts.labels(outcome)
            self._mails.labels(outcome)

    def _declare_process(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self._refresh_failures = counter(
            "issuer_key_ring_refresh_failures",
            "Failed attempts of a process to refresh its view of the key ring",
        )
        self._restarts = _LabelledCounter(
            counter(
                "issuer_background_task_restarts",
                "Background tasks that ended unexpectedly and were restarted",
                ["task"],
            ),
            [(task,) for task in BACKGROUND_TASKS],
        )
        self._log_lines_dropped = counter("issuer_log_lines_dropped", "Log lines that could not be written")
        self._task_overdue = gauge(
            "issuer_background_task_overdue_seconds",
            "How long a background task has been overdue; the maximum of all processes",
            ["task"],
            multiprocess_mode="livemax",
        )
        for task in BACKGROUND_TASKS:
            self._task_overdue.labels(task)
        self.hashing_jobs = gauge(
            "issuer_hashing_jobs",
            "Requests that hash a password or wait in the hashing queue",
            multiprocess_mode="livesum",
        )
        self.listeners = gauge(
            "issuer_jwks_listeners",
            "Requests for the JWKS that wait for a change, one of each listening verifier",
            multiprocess_mode="livesum",
        )
        self.reconcile_failing = gauge(
            "issuer_key_ring_reconcile_failing_seconds",
            "How long reconciling the key ring has been failing; the maximum of all processes, 0 if none fails",
            multiprocess_mode="livemax",
        )

    @staticmethod
    def of(request: Request) -> "Instruments":
        """Return the instruments of the application that answers `request`."""
        instruments: Instruments = request.app.state.instruments
        return instruments

    @staticmethod
    def grant_label(named: str | None) -> str:
        """Return the label for the `grant_type` of a request: a known grant, or `other`."""
        return named if named in _GRANTS else OTHER

    def token_issued(self, grant: str, kid: str) -> None:
        """Count an access token; `grant` is a known grant."""
        notify(self._issued.add, grant, kid)

    def request_refused(self, scope: Any, reason: str) -> None:
        """Count a refused request; `reason` is an error code, and scope["grant"] the label set by the endpoint."""
        route, path = scope.get("route"), scope["path"]
        endpoint = getattr(route, "path", OTHER) if route else path if path in self._fast_paths else OTHER
        notify(self._refusals.add, endpoint, scope.get("grant", ""), reason)

    def refresh_token_reused(self) -> None:
        """Count a used refresh token that was presented again after its grace period."""
        notify(self._reuses.inc)

    def hashing_rejected(self) -> None:
        """Count a request that was refused because the hashing queue was full."""
        notify(self._hashing_rejected.inc)

    def refresh_failed(self) -> None:
        """Count a failed refresh of the view of the key ring."""
        notify(self._refresh_failures.inc)

    def task_restarted(self, task: str) -> None:
        """Count a background task that ended and was restarted."""
        notify(self._restarts.add, task)

    def task_overdue(self, task: str, seconds: float) -> None:
        """Record how long a background task has been overdue."""
        notify(lambda: self._task_overdue.labels(task).set(seconds))

    def log_lines_dropped(self, count: int) -> None:
        """Count log lines that could not be written."""
        notify(self._log_lines_dropped.inc, count)

    def refresh_token_retried(self, outcome: str) -> None:
        """Count a used refresh token that was presented again within its grace period: `answered` or `refused`."""
        notify(self._retries.add, outcome)

    def logouts_sent(self, delivered: int, failed: int, given_up: int) -> None:
        """Count notices of back-channel logout by what became of them: a failed one is sent again."""
        for outcome, count in zip(OUTCOMES, (delivered, failed, given_up), strict=True):
            notify(self._logouts.labels(outcome).inc, count)

    def mails_sent(self, delivered: int, failed: int, given_up: int) -> None:
        """Count mails in the same way."""
        for outcome, count in zip(OUTCOMES, (delivered, failed, given_up), strict=True):
            notify(self._mails.labels(outcome).inc, count)

    def connection_refused(self, reason: str) -> None:
        """Count a connection or request that `issuer.connections` refused; `reason` is a `Cause`."""
        notify(self._connections.add, reason)

    def jwks_requested(self, status: str, version: int) -> None:
        """Count a request for the JWKS."""
        notify(self._key_sets.add, status, version)

    def transaction_took(self, kind: str, seconds: float) -> None:
        """Record the duration of a `read` or a `write` transaction."""
        self._transaction_seconds[kind](seconds)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes that share the directory; without one, those of this process.

        If the files cannot be read, because they were removed or the disk fails, those of this process too.
        """
        if VARIABLE in os.environ:
            shared: list[Metric] = []
            notify(lambda: shared.extend(MultiProcessCollector(None).collect()))  # type: ignore[no-untyped-call]
            if shared:
                return shared
        return self._registry.collect()
