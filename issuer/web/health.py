"""`GET /healthz`: the process lives; `GET /readyz`: it can do its work, or why not."""

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from issuer.keyring import KeyRingError
from issuer.store.database import StoreError
from issuer.web.deps import IssuerDep
from issuer.web.errors import NO_STORE
from issuer.wiring import Issuer

router = APIRouter(tags=["operation"])

OK = "ok"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": OK}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "Not ready; each check says why."}})
async def readyz(request: Request, issuer: IssuerDep) -> JSONResponse:
    """Tell whether this node can sign and reach its database, and what needs attention although it can."""
    # A thread of its own: requests that wait for the database must not hold the answer up.
    checks, warnings = await anyio.to_thread.run_sync(_checks, issuer, limiter=request.app.state.probing)
    ready = all(result == OK for result in checks.values())
    body = {"status": OK if ready else "not ready", "checks": checks, "warnings": warnings}
    return JSONResponse(body, 200 if ready else 503, NO_STORE)


def _checks(issuer: Issuer) -> tuple[dict[str, str], list[str]]:
    checks = {"database": OK, "key_ring": OK}
    try:
        issuer.ring_database.ping()
    except StoreError:
        checks["database"] = "the database does not answer"
    try:
        key = issuer.node.view.signing_key(issuer.policy, issuer.clock())
        issuer.signer.sign(key.kid, b"readiness")
    except KeyRingError as error:
        checks["key_ring"] = str(error)
    return checks, issuer.node.warnings(in_detail=issuer.settings.is_loopback)
