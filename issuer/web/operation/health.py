"""`GET /healthz`: the process lives; `GET /readyz`: it can do its work, or why not."""

import asyncio

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, StaleView
from issuer.web.deps import IssuerDep
from issuer.web.http.errors import NO_STORE
from issuer.web.operation.supervision import Supervisor
from issuer.wiring import Issuer

router = APIRouter(tags=["operation"])

OK = "ok"
Result = tuple[dict[str, str], list[str]]
"""Each check with what is wrong, and warnings."""


@router.get("/healthz", responses={503: {"description": "The process cannot go on, and should be replaced."}})
async def healthz(request: Request) -> JSONResponse:
    """Answer 200 while the process runs and its background tasks can be kept running."""
    wrong = request.app.state.supervisor.unhealthy
    return JSONResponse({"status": wrong or OK}, 503 if wrong else 200, NO_STORE)


@router.get("/readyz", responses={503: {"description": "Not ready; each check says why."}})
async def readyz(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Return whether this node can sign and reach its database, with warnings that need attention."""
    probe: Probe = request.app.state.probe
    checks, warnings = await probe.result(issuer)
    ready = all(result == OK for result in checks.values())
    body = {"status": OK if ready else "not ready", "checks": checks, "warnings": warnings}
    return JSONResponse(body, 200 if ready else 503, NO_STORE)


class Probe:
    """One look at a time, which all who ask meanwhile share: no crowd can make a probe late."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._look: asyncio.Task[Result] | None = None
        # A thread of its own: requests that wait for the database must not hold the answer up.
        self._thread = anyio.CapacityLimiter(1)
        self._leaving = False

    def leave(self) -> None:
        """Not be ready from now on: the process will be stopped."""
        self._leaving = True

    async def result(self, issuer: Issuer) -> Result:
        """Return what the look under way finds, or else another."""
        if self._leaving:
            return {"process": "it is about to stop"}, []
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(anyio.to_thread.run_sync(_checks, issuer, limiter=self._thread))
        checks, warnings = await asyncio.shield(self._look)
        return {**checks, "background_tasks": self._supervisor.unready or OK}, warnings


def _checks(issuer: Issuer) -> Result:
    checks = {"database": OK, "key_ring": OK}
    in_detail = issuer.settings.is_loopback  # elsewhere anybody asks, and paths are nobody's business
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
    """Return what is doubtful about the passphrase: logged once, at the start, and shown here while it is so."""
    advice = [warning.message for warning in issuer.settings.passphrase_warnings()]
    return advice if in_detail or not advice else ["the settings need attention; see: issuer check"]
