"""The application: routes, error handler, CORS, and the task that keeps the key ring in view.

Everything else is built by `wiring`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import anyio.to_thread
import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware

from issuer.keyring import KeyRingError
from issuer.store.database import StoreError
from issuer.web import discovery, errors, health, jwks, login, token, users
from issuer.wiring import Issuer

log = structlog.get_logger("issuer.rotation")

DESCRIPTION = """\
Issues access tokens (JWT, RFC 9068) signed by a key that rotates, and publishes the public keys by which any service
verifies them. Log in with **Authorize**, or at `/login`; machines use `/oauth2/token`.
"""
BODY_MOST_BYTES = 64 * 1024
REFRESH_SECONDS = 1.0
"""How often a node looks at the ring: a change is seen everywhere within two seconds."""


def create_app(issuer: Issuer) -> FastAPI:
    """Return the application around `issuer`; starting it starts the care of the key ring."""
    app = FastAPIOffline(
        title="JWKS issuer",
        version=version("jwks-issuer"),
        description=DESCRIPTION,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.issuer = issuer
    app.state.key_set = jwks.RenderedKeySet()
    for room in (login, token, users, jwks, discovery, health):
        app.include_router(room.router)
    errors.install(app)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=BODY_MOST_BYTES)
    app.add_middleware(errors.RefuseLargeBodies, most_bytes=BODY_MOST_BYTES)
    if issuer.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=issuer.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Requested-With"],
        )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    issuer: Issuer = app.state.issuer
    await anyio.to_thread.run_sync(issuer.node.refresh)  # without a usable ring it does not start
    keeper = asyncio.create_task(_keep(issuer))
    try:
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        issuer.close()


async def _keep(issuer: Issuer) -> None:
    """Keep the ring in view for as long as the process lives; a failure is logged and tried again."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await anyio.to_thread.run_sync(issuer.node.refresh)
        except (KeyRingError, StoreError) as error:
            log.error("the key ring could not be refreshed", reason=str(error))  # noqa: TRY400 - expected
        except Exception:
            log.exception("the key ring could not be refreshed")
