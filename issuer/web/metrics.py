"""`GET /metrics`: the key ring in figures, for Prometheus; behind a token where others can reach the issuer."""

import hmac
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from issuer.nodes import Acknowledgement
from issuer.store.database import StoreError
from issuer.web.deps import IssuerDep
from issuer.web.errors import NO_STORE, MissingToken, documented
from issuer.wiring import Issuer

router = APIRouter(tags=["operation"])
bearer = HTTPBearer(auto_error=False, description="ISSUER_METRICS_TOKEN")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **documented(401)},
)
async def metrics(
    request: Request,
    issuer: IssuerDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Response:
    """Return the state of the key ring in Prometheus' text format."""
    _require_token(issuer, credentials)
    text = await anyio.to_thread.run_sync(_rendered, issuer, limiter=request.app.state.measuring)
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


def _require_token(issuer: Issuer, credentials: HTTPAuthorizationCredentials | None) -> None:
    token = issuer.settings.metrics_token
    if token is None and issuer.settings.is_loopback:
        return
    given = credentials.credentials if credentials else ""
    if token is None or not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise MissingToken


def _rendered(issuer: Issuer) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_KeyRingFigures(issuer))
    return generate_latest(registry)


class _KeyRingFigures:
    """Reads the figures when asked; whichever worker answers, they tell the same or bear its name."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def collect(self) -> Iterator[Metric]:
        """Yield each figure; times in seconds."""
        issuer, now = self._issuer, self._issuer.clock()
        ring = issuer.node.view.ring
        started = ring.current(now).activates_at or now
        overdue = ring.overdue_since(issuer.policy, now) or now
        yield _gauge(
            "issuer_current_key_age_seconds",
            "For how long the current key has signed",
            _seconds(now - started),
        )
        yield _gauge(
            "issuer_rotation_overdue_seconds",
            "For how long the current key should have had a successor; 0 if it need not",
            _seconds(now - overdue),
        )
        yield _gauge(
            "issuer_standbys_missing", "How many standby keys are missing", ring.shortfall(now, issuer.policy)
        )
        yield from self._of_this_process(now)
        yield from self._of_all_processes(now)

    def _of_this_process(self, now: datetime) -> Iterator[Metric]:
        node = self._issuer.node
        since = node.trouble.since if node.trouble else now
        trouble = GaugeMetricFamily(
            "issuer_key_ring_trouble_seconds",
            "For how long the process has been unable to care for the key ring; 0 if it is able",
            labels=["process"],
        )
        trouble.add_metric([node.name], _seconds(now - since))
        failures = CounterMetricFamily(
            "issuer_key_ring_refresh_failures",
            "How often the process could not refresh its view of the key ring",
            labels=["process"],
        )
        failures.add_metric([node.name], node.failures)
        replays = CounterMetricFamily(
            "issuer_refresh_token_replays",
            "How often the process was given a used refresh token after its grace, and ended the session",
            labels=["process"],
        )
        replays.add_metric([node.name], self._issuer.grants.sessions.replays)
        yield trouble
        yield failures
        yield replays

    def _of_all_processes(self, now: datetime) -> Iterator[Metric]:
        silence = GaugeMetricFamily(
            "issuer_process_silence_seconds", "How long ago a process saw the key ring", labels=["process"]
        )
        version = GaugeMetricFamily(
            "issuer_process_ring_version",
            "The version of the key ring that a process holds",
            labels=["process"],
        )
        try:
            beats = Acknowledgement.of(self._issuer.heartbeats.all(), 0, self._issuer.policy, now).done
        except StoreError:
            beats = ()  # the figures of this process tell enough
        # In containers two processes may bear one name, and the newest of them stands for it.
        for beat in {beat.name: beat for beat in sorted(beats, key=lambda beat: beat.refreshed_at)}.values():
            silence.add_metric([beat.name], _seconds(now - beat.refreshed_at))
            version.add_metric([beat.name], beat.version)
        yield silence
        yield version


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)
