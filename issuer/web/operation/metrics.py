"""`GET /metrics`: the metrics of the process and of the key ring, for Prometheus; needs a token unless on loopback.

Metrics that are counted as things happen are declared in `instruments`.
"""

import hmac
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.samples import Sample

from issuer.callbacks import notify
from issuer.database.errors import StoreError
from issuer.keyring.heartbeat import Acknowledgement
from issuer.keyring.plan import EventKind, next_changes
from issuer.keyring.ring import KeyRing
from issuer.keyring.verifiers import Summary, verifiers
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.deps import IssuerDep
from issuer.web.http.errors import NO_STORE, MissingToken, documented
from issuer.web.instruments import Instruments

DIGEST_SHOWN = 16
"""Digits of a digest in a label: an attacker would have to compute 2**64 digests to replace an entry unnoticed."""
VERSIONS_KEPT = 10
"""How many versions of the key ring are exported as a label."""
_TRANSITIONS = {EventKind.SIGNS: "signs", EventKind.LEAVES: "leaves"}

bearer = HTTPBearer(
    scheme_name="metrics_token", auto_error=False, description="The value of ISSUER_METRICS_TOKEN."
)


def routes(settings: Settings) -> APIRouter:
    """Return the endpoint; OpenAPI has the token where one is needed."""
    router = APIRouter(tags=["operation"])
    router.add_api_route(
        "/metrics",
        metrics,
        summary="Read the metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented(MissingToken)},
        # In OpenAPI: no authentication is needed.
        openapi_extra={"security": [{}]} if _is_open(settings) else None,
    )
    return router


async def metrics(
    request: Request,
    issuer: IssuerDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Response:
    """Return the metrics of all processes of this server in the text format of Prometheus."""
    _require_token(issuer.settings, credentials)
    limiter = request.app.state.metrics_limiter
    text = await anyio.to_thread.run_sync(_rendered, issuer, Instruments.of(request), limiter=limiter)
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


def _is_open(settings: Settings) -> bool:
    return settings.metrics_token is None and settings.is_loopback


def _require_token(settings: Settings, credentials: HTTPAuthorizationCredentials | None) -> None:
    if _is_open(settings):
        return
    token, given = settings.metrics_token, credentials.credentials if credentials else ""
    if token is None or not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise MissingToken


def _rendered(issuer: Issuer, instruments: Instruments) -> bytes:
    record_process_state(issuer, instruments)
    return generate_latest(_AllMetrics(issuer, instruments))


def record_process_state(issuer: Issuer, instruments: Instruments) -> None:
    """Record the state of this process, so that any process of the server can report it."""
    failure = issuer.keys.node.failure
    notify(instruments.reconcile_failing.set, _seconds(issuer.clock() - failure.since) if failure else 0)


class _AllMetrics:
    """All metrics; the same whichever process of the server exports them."""

    def __init__(self, issuer: Issuer, instruments: Instruments) -> None:
        self._issuer = issuer
        self._instruments = instruments

    def collect(self) -> Iterator[Metric]:
        """Yield each metric; times in seconds."""
        now, ring = self._issuer.clock(), self._issuer.keys.node.view.ring
        for metric in self._instruments.collect():
            metric.samples = [sample for sample in metric.samples if _is_current(sample, ring)]
            yield metric
        yield from self._ring_metrics(ring, now)
        yield from self._process_metrics(now)
        yield from self._verifier_metrics(ring, now)

    def _ring_metrics(self, ring: KeyRing, now: datetime) -> Iterator[Metric]:
        policy = self._issuer.policy
        started = ring.current(now).activates_at or now
        overdue = ring.overdue_since(policy, now) or now
        coming = GaugeMetricFamily(
            "issuer_next_transition_seconds",
            "Time until the next key signs, and until the next one leaves the JWKS; absent if none is planned",
            labels=["transition"],
        )
        for kind, at in next_changes(ring, now).items():
            coming.add_metric([_TRANSITIONS[kind]], _seconds(at - now))
        yield coming
        ahead = self._issuer.keys.rotation.clocks.ahead or timedelta(0)
        for name, says, value in (
            (
                "clock_offset_seconds",
                "How far the clock of this machine is ahead of the clock of the database; negative if it is behind",
                ahead.total_seconds(),
            ),
            ("current_key_age_seconds", "How long the current key has been signing", _seconds(now - started)),
            (
                "rotation_overdue_seconds",
                "How long the rotation of the current key has been overdue; 0 if it is not",
                _seconds(now - overdue),
            ),
            ("standby_keys_missing", "Number of missing standby keys", ring.shortfall(now, policy)),
            (
                "key_ring_version",
                "Version of the key ring, which increases with every change",
                ring.version,
            ),
        ):
            yield GaugeMetricFamily(f"issuer_{name}", says, value=value)
        yield self._audit_head()

    def _audit_head(self) -> Metric:
        """Return the newest entry of the audit log of keys, so that whoever stores metrics has an anchor of it."""
        metric = GaugeMetricFamily(
            "issuer_audit_entries",
            "Number of the newest entry of the audit log of keys, and the beginning of its digest",
            labels=["digest"],
        )
        with suppress(StoreError):
            head = self._issuer.keys.audit.head()
            metric.add_metric([head.digest[:DIGEST_SHOWN]], head.number)
        return metric

    def _process_metrics(self, now: datetime) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "issuer_process_heartbeat_age_seconds",
            "Age of the heartbeat of a process: how long ago it read the key ring",
            labels=["process"],
        )
        version = GaugeMetricFamily(
            "issuer_process_key_ring_version",
            "Version of the key ring that a process has loaded",
            labels=["process"],
        )
        try:
            beats = Acknowledgement.of(self._issuer.keys.heartbeats.all(), 0, self._issuer.policy, now).done
        except StoreError:
            beats = ()  # the metrics of this server show the failure
        # In containers two processes may have the same name; the newest heartbeat is exported.
        for beat in {beat.name: beat for beat in sorted(beats, key=lambda beat: beat.refreshed_at)}.values():
            age.add_metric([beat.name], _seconds(now - beat.refreshed_at))
            version.add_metric([beat.name], beat.version)
        yield age
        yield version

    def _verifier_metrics(self, ring: KeyRing, now: datetime) -> Iterator[Metric]:
        """Yield how many verifiers hold the next key; nothing where that is not known."""
        standby = next(iter(ring.standbys(now)), None)
        if standby is None or not self._issuer.keys.census.is_on:
            return
        metric = GaugeMetricFamily(
            "issuer_verifiers",
            "Verifiers that asked for the JWKS in the last 24 hours, by whether they hold the next key",
            labels=["holds_next"],
        )
        with suppress(StoreError):
            sightings, key_sets, _ = self._issuer.keys.census_store.load(now)
            counts = Summary.of(verifiers(sightings, key_sets, standby.kid), now).counts
            for knows, number in counts.items():
                metric.add_metric([knows.value], number)
        yield metric


def _is_current(sample: Sample, ring: KeyRing) -> bool:
    """Whether to export a sample: none of a removed key or an old version of the ring, and no `_created` sample.

    Otherwise the number of series would grow with each rotation.
    """
    if sample.name.endswith("_created"):
        return False
    if "kid" in sample.labels:
        return any(key.kid == sample.labels["kid"] for key in ring.keys)
    if "version" in sample.labels:
        return int(sample.labels["version"]) > ring.version - VERSIONS_KEPT
    return True


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())
