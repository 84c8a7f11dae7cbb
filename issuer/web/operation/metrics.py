"""`GET /metrics`: what was counted, and the state of the key ring, for Prometheus; behind a token where others ask.

What is counted is declared in `figures`.
"""

import hmac
from collections.abc import Iterator
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
from issuer.keyring.plan import Happening, next_changes
from issuer.keyring.ring import KeyRing
from issuer.settings.settings import Settings
from issuer.web.deps import IssuerDep
from issuer.web.http.errors import NO_STORE, MissingToken, documented
from issuer.web.instruments import Figures
from issuer.wiring import Issuer

VERSIONS_TOLD = 10
"""For so many versions of the key ring requests are counted one by one."""
_TRANSITIONS = {Happening.SIGNS: "signs", Happening.LEAVES: "leaves"}

bearer = HTTPBearer(auto_error=False, description="ISSUER_METRICS_TOKEN")


def routes(settings: Settings) -> APIRouter:
    """Return the endpoint, described as needing a token if it does."""
    router = APIRouter(tags=["operation"])
    router.add_api_route(
        "/metrics",
        metrics,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented(401, 503)},
        # Or without any, in OpenAPI's words.
        openapi_extra={"security": [{}]} if _is_open(settings) else None,
    )
    return router


async def metrics(
    request: Request,
    issuer: IssuerDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Response:
    """Return the metrics of all processes of this server in Prometheus' text format."""
    _require_token(issuer.settings, credentials)
    limiter = request.app.state.measuring
    text = await anyio.to_thread.run_sync(_rendered, issuer, Figures.of(request), limiter=limiter)
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


def _is_open(settings: Settings) -> bool:
    return settings.metrics_token is None and settings.is_loopback


def _require_token(settings: Settings, credentials: HTTPAuthorizationCredentials | None) -> None:
    if _is_open(settings):
        return
    token, given = settings.metrics_token, credentials.credentials if credentials else ""
    if token is None or not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise MissingToken


def _rendered(issuer: Issuer, figures: Figures) -> bytes:
    watch(issuer, figures)
    return generate_latest(_Told(issuer, figures))


def watch(issuer: Issuer, figures: Figures) -> None:
    """Take note of what only this process knows of itself at this moment, for whichever process is asked."""
    trouble = issuer.keys.node.trouble
    notify(figures.trouble.set, _seconds(issuer.clock() - trouble.since) if trouble else 0)


class _Told:
    """Everything that is told; whichever process answers, they tell the same."""

    def __init__(self, issuer: Issuer, figures: Figures) -> None:
        self._issuer = issuer
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield each metric; times in seconds."""
        now, ring = self._issuer.clock(), self._issuer.keys.node.view.ring
        for metric in self._figures.collect():
            metric.samples = [sample for sample in metric.samples if _is_told(sample, ring)]
            yield metric
        yield from self._of_the_ring(ring, now)
        yield from self._of_all_processes(now)

    def _of_the_ring(self, ring: KeyRing, now: datetime) -> Iterator[Metric]:
        policy = self._issuer.policy
        started = ring.current(now).activates_at or now
        overdue = ring.overdue_since(policy, now) or now
        coming = GaugeMetricFamily(
            "issuer_next_transition_seconds",
            "How long until the next key signs, and until the next leaves the JWKS; none if none will by itself",
            labels=["transition"],
        )
        for happening, at in next_changes(ring, now).items():
            coming.add_metric([_TRANSITIONS[happening]], _seconds(at - now))
        yield coming
        ahead = self._issuer.keys.node.clock_ahead or timedelta(0)
        for name, says, value in (
            (
                "clock_ahead_seconds",
                "By how much the clock of this machine is ahead of the database's; below 0: behind",
                ahead.total_seconds(),
            ),
            ("current_key_age_seconds", "For how long the current key has signed", _seconds(now - started)),
            (
                "rotation_overdue_seconds",
                "For how long rotation of the current key has been overdue; 0 if it is not",
                _seconds(now - overdue),
            ),
            ("standbys_missing", "How many standby keys are missing", ring.shortfall(now, policy)),
            (
                "key_ring_version",
                "The version of the key ring, which increases with every change",
                ring.version,
            ),
        ):
            yield GaugeMetricFamily(f"issuer_{name}", says, value=value)

    def _of_all_processes(self, now: datetime) -> Iterator[Metric]:
        silence = GaugeMetricFamily(
            "issuer_process_silence_seconds",
            "Age of the heartbeat of a process: how long ago it read the key ring",
            labels=["process"],
        )
        version = GaugeMetricFamily(
            "issuer_process_ring_version",
            "The version of the key ring that a process holds",
            labels=["process"],
        )
        try:
            beats = Acknowledgement.of(self._issuer.keys.heartbeats.all(), 0, self._issuer.policy, now).done
        except StoreError:
            beats = ()  # what this server counted tells enough
        # In containers two processes may bear one name, and the newest of them stands for it.
        for beat in {beat.name: beat for beat in sorted(beats, key=lambda beat: beat.refreshed_at)}.values():
            silence.add_metric([beat.name], _seconds(now - beat.refreshed_at))
            version.add_metric([beat.name], beat.version)
        yield silence
        yield version


def _is_told(sample: Sample, ring: KeyRing) -> bool:
    """Whether a sample is still of use: no series outlives its key, or its version of the ring, for long.

    Otherwise a server would tell more with each rotation. When it began to count, Prometheus need not know.
    """
    if sample.name.endswith("_created"):
        return False
    if "kid" in sample.labels:
        return any(key.kid == sample.labels["kid"] for key in ring.keys)
    if "version" in sample.labels:
        return int(sample.labels["version"]) > ring.version - VERSIONS_TOLD
    return True


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())
