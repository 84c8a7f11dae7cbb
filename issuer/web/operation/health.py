"""`GET /healthz`: whether the process works; `GET /readyz`: whether it can serve requests, or why not."""

import asyncio
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, StaleView
from issuer.services import Issuer
from issuer.web.deps import IssuerDep
from issuer.web.http.errors import NO_STORE, answered, documented
from issuer.web.operation.supervision import Supervisor

router = APIRouter(tags=["operation"])

OK = "ok"
Result = tuple[dict[str, str], list[str]]
"""The result of each check, and warnings."""


_UNHEALTHY = {"status": "no heartbeat from the background task refresh"}
_UNREADY = {
    "status": "not ready",
    "checks": {"database": "the database does not answer", "key_ring": OK, "background_tasks": OK},
    "warnings": [],
}


_READY = {
    "status": OK,
    "checks": {"database": OK, "key_ring": OK, "background_tasks": OK},
    "warnings": [],
}


def _responses(good: Any, wrong: Any, description: str) -> dict[int | str, dict[str, Any]]:
    bad = answered(wrong, 503)
    bad[503]["description"] = description
    return answered(good) | bad | documented()


@router.get(
    "/healthz",
    summary="Check that the process works",
    responses=_responses({"status": OK}, _UNHEALTHY, "The process should be restarted."),
)
async def healthz(request: Request) -> JSONResponse:
    """Return 200 while the process and its background tasks run."""
    wrong = request.app.state.supervisor.unhealthy
    return JSONResponse({"status": wrong or OK}, 503 if wrong else 200, NO_STORE)


@router.get(
    "/readyz",
    summary="Check that requests can be served",
    responses=_responses(_READY, _UNREADY, "Not ready; `checks` has the reasons."),
)
async def readyz(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Return whether this process can sign and reach its database, and warnings for operators."""
    probe: Probe = request.app.state.probe
    checks, warnings = await probe.result(issuer)
    ready = all(result == OK for result in checks.values())
    body = {"status": OK if ready else "not ready", "checks": checks, "warnings": warnings}
    return JSONResponse(body, 200 if ready else 503, NO_STORE)


class Probe:
    """Runs the checks once at a time; requests that arrive meanwhile share the result, so load delays no probe."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._running: asyncio.Task[Result] | None = None
        # Not from the pool of threads for requests, which may all wait for the database.
        self._thread = anyio.CapacityLimiter(1)
        self._is_stopping = False

    def mark_stopping(self) -> None:
        """Report unready from now on, as the process will be stopped."""
        self._is_stopping = True

    async def result(self, issuer: Issuer) -> Result:
        """Return the result of the checks that are running, or of new ones."""
        if self._is_stopping:
            return {"process": "about to stop"}, []
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(
                anyio.to_thread.run_sync(_checks, issuer, limiter=self._thread)
            )
        checks, warnings = await asyncio.shield(self._running)
        return {**checks, "background_tasks": self._supervisor.unready or OK}, warnings


def _checks(issuer: Issuer) -> Result:
    checks = {"database": OK, "key_ring": OK}
    in_detail = issuer.settings.is_loopback  # elsewhere the endpoint is public, and reasons may hold paths
    try:
        issuer.ring_database.ping()
    except StoreError:
        checks["database"] = "the database does not answer"
    try:
        key = issuer.keys.node.view.signing_key(issuer.policy, issuer.clock())
        issuer.keys.signer.sign(key.kid, b"readiness")
    except StaleView as error:
        checks["key_ring"] = str(error)
    except KeyRingError as error:
        checks["key_ring"] = str(error) if in_detail else "the current key cannot sign; see the log"
    return checks, [*issuer.keys.node.warnings(in_detail=in_detail), *_advice(issuer, in_detail=in_detail)]


def _advice(issuer: Issuer, *, in_detail: bool) -> list[str]:
    """Return warnings about the passphrase, which the log has at the start only."""
    advice = [warning.message for warning in issuer.settings.passphrase_warnings()]
    return advice if in_detail or not advice else ["the settings need attention; see: issuer check"]
