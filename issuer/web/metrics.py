"""`GET /metrics`: the key ring in figures, for Prometheus; behind a token where others can reach the issuer."""

import hmac
from collections.abc import Iterator
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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
    text = await anyio.to_thread.run_sync(_rendered, issuer, limiter=request.app.state.probing)
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
    """Reads the figures when asked; those of other processes from their heartbeats, whichever worker answers."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def collect(self) -> Iterator[Metric]:
        """Yield each figure; times in seconds."""
        issuer, now = self._issuer, self._issuer.clock()
        view = issuer.node.view
        current = view.ring.current(now)
        overdue = view.ring.overdue_since(issuer.policy, now)
        age = (now - current.activates_at).total_seconds() if current.activates_at else 0
        trouble = issuer.node.trouble
        yield _gauge(
            "issuer_key_ring_version",
            "The version of the key ring that this process holds",
            view.ring.version,
        )
        yield _gauge("issuer_current_key_age_seconds", "For how long the current key has signed", age)
        yield _gauge(
            "issuer_rotation_overdue_seconds",
            "For how long the current key should have had a successor; 0 if it need not",
            (now - overdue).total_seconds() if overdue else 0,
        )
        yield _gauge(
            "issuer_key_ring_trouble_seconds",
            "For how long this process has been unable to care for the key ring; 0 if it is able",
            (now - trouble.since).total_seconds() if trouble else 0,
        )
        failures = CounterMetricFamily(
            "issuer_key_ring_refresh_failures", "How often this process could not refresh the key ring"
        )
        failures.add_metric([], issuer.node.failures)
        yield failures
        yield self._silence()

    def _silence(self) -> Metric:
        figure = GaugeMetricFamily(
            "issuer_node_silence_seconds", "How long ago each process saw the key ring", labels=["node"]
        )
        try:
            beats = self._issuer.heartbeats.all()
        except StoreError:
            return figure  # the figures of this process tell enough
        now = self._issuer.clock()
        for beat in beats:
            figure.add_metric([beat.name], (now - beat.refreshed_at).total_seconds())
        return figure


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)
