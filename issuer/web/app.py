"""The application: routes, error handler, CORS, and the task that keeps the key ring in view.

Everything else is built by `wiring`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp

from issuer.settings.settings import Settings
from issuer.web import instruments
from issuer.web.account import login, sessions, users
from issuer.web.http import errors
from issuer.web.http.access_log import RequestLog
from issuer.web.http.ambiguity import RefuseRepeatedHeaders
from issuer.web.http.body_limit import RefuseLargeBodies
from issuer.web.http.cors import CrossOrigin
from issuer.web.http.fast_path import Direct, answer
from issuer.web.http.methods import CommonMethods
from issuer.web.http.path_redaction import KnownPaths
from issuer.web.http.prefix import PutBack, TakeOff, path_of
from issuer.web.http.proxies import ClientAddress, TrustedProxies
from issuer.web.http.security_headers import SecurityHeaders
from issuer.web.http.signing_thread import Aside
from issuer.web.oauth import introspection, revocation, token
from issuer.web.operation import health, metrics
from issuer.web.operation.background import supervised
from issuer.web.operation.supervision import Supervisor, Watchdog
from issuer.web.pages import api_docs
from issuer.web.well_known import discovery, jwks
from issuer.wiring import Issuer, cores

DESCRIPTION = """\
Issues access tokens (JWT, RFC 9068) signed by a key that rotates, and publishes the public keys by which any service
verifies them. Log in with **Authorize**, or at `/login`; machines use `/oauth2/token`.
"""

DIRECT = {**jwks.DIRECT, **token.DIRECT}


def create_app(issuer: Issuer, *, alone: bool = False) -> FastAPI:
    """Return the application around `issuer`; starting it starts the care of the key ring.

    One that is `alone` uses a second core, if there is one, for signatures.
    """
    prefix = path_of(issuer.settings.url)
    app = FastAPI(
        title="JWKS issuer",
        version=version("jwks-issuer"),
        description=DESCRIPTION,
        openapi_url=None,  # see docs_page
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to whatever the Host header says, password included
        servers=[{"url": prefix}] if prefix else None,
        lifespan=_lifespan,
    )
    app.state.issuer = issuer
    app.state.figures = _counting(issuer)
    app.state.connection_refused = app.state.figures.connection_refused  # for `issuer.connections`
    app.state.key_set = jwks.RenderedKeySet()
    app.state.supervisor = supervised(issuer, app.state.figures)
    app.state.probe = health.Probe(app.state.supervisor)
    app.state.signing = _signing(issuer, alone=alone)
    app.state.measuring = anyio.CapacityLimiter(1)
    for room in (login, token, revocation, introspection, users, sessions, jwks, discovery, health):
        app.include_router(room.router)
    app.include_router(metrics.routes(issuer.settings))
    api_docs.install(app, prefix)
    discovery.install_inserted(app, prefix)
    errors.install(app)
    app.add_middleware(RefuseLargeBodies)
    app.middleware_stack = _front(app.build_middleware_stack(), KnownPaths(_paths(app)), issuer.settings)
    return app


def _signing(issuer: Issuer, *, alone: bool) -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    if not alone or cores() == 1 or issuer.settings.keys == "pkcs11":  # whose signatures wait for each other
        return answer
    issuer.tokens.group_commit.use_second_core()
    return Aside().run


def _counting(issuer: Issuer) -> instruments.Figures:
    """Return what counts for this process, which the layers below report to."""
    counting = instruments.Figures(path for _, path in DIRECT)
    for database in (issuer.database, issuer.ring_database):
        database.took = counting.transaction
    issuer.accounts.hashing_pool.changed = counting.hashing.set
    return counting


def _paths(app: FastAPI) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        if route.path is not None:
            yield route.path


def _front(app: ASGIApp, paths: KnownPaths, settings: Settings) -> ASGIApp:
    """Return what every request passes through, outermost last."""
    prefix, proxies = path_of(settings.url), TrustedProxies(settings.trusted_proxies)
    app = PutBack(app, prefix) if prefix else app
    app = Direct(app, DIRECT, errors.write)
    app = CommonMethods(app)
    app = RefuseRepeatedHeaders(app)
    app = CrossOrigin(app, settings.cors_origins)
    app = SecurityHeaders(app)
    app = ClientAddress(app, proxies)
    app = RequestLog(app, paths, proxies)
    return TakeOff(app, prefix) if prefix else app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    issuer: Issuer = app.state.issuer
    try:
        if (
            not issuer.keys.node.has_view
        ):  # without a usable ring it does not start; who has one looks again soon
            await anyio.to_thread.run_sync(issuer.keys.node.refresh)
        issuer.accounts.hashing_pool.start()
        issuer.tokens.group_commit.start()
        supervisor: Supervisor = app.state.supervisor
        watchdog = Watchdog(lambda: supervisor.ticks)
        supervising = asyncio.create_task(supervisor.run())
        watchdog.start()
        yield
        watchdog.stop()
        supervising.cancel()
        await asyncio.wait({supervising})
    finally:
        issuer.close()
