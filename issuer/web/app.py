"""The ASGI application: routes, middleware, error handlers and background tasks.

Everything below it is built by `wiring`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp

from issuer.callbacks import notify
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.threads import cores
from issuer.web import instruments
from issuer.web.account import login, own_account, sessions, users
from issuer.web.http import errors
from issuer.web.http.access_log import AccessLog
from issuer.web.http.ambiguity import RefuseRepeatedHeaders
from issuer.web.http.body_limit import RefuseLargeBodies
from issuer.web.http.cors import CrossOrigin
from issuer.web.http.fast_path import FastPath, run_inline_or_on_thread
from issuer.web.http.methods import CommonMethods
from issuer.web.http.path_redaction import PathRedaction
from issuer.web.http.prefix import SetRootPath, StripPrefix, path_of
from issuer.web.http.proxies import ClientAddress, TrustedProxies
from issuer.web.http.security_headers import SecurityHeaders
from issuer.web.http.signing_thread import SigningThread
from issuer.web.oauth import authorize, end_session, introspection, par, revocation, token, userinfo
from issuer.web.operation import health, metrics
from issuer.web.operation.background import build_supervisor
from issuer.web.operation.supervision import Supervisor, Watchdog
from issuer.web.pages import (
    account,
    address,
    api_docs,
    consent,
    forgot,
    home,
    own_deletion,
    own_password,
    own_profile,
    reset,
    signin,
    signout,
    signup,
    style,
)
from issuer.web.pages.errors import render_error
from issuer.web.well_known import discovery, jwks
from issuer.web.well_known.listening import Listeners

DESCRIPTION = """\
Issues access tokens (JWT, RFC 9068), signed with rotating keys, and publishes the public keys for verification. Log
in with **Authorize**, or at `/login`; machine clients use `/oauth2/token`.
"""

ENDPOINTS = (
    login,
    token,
    authorize,
    par,
    revocation,
    introspection,
    userinfo,
    end_session,
    users,
    own_account,
    sessions,
    jwks,
    discovery,
    health,
    signin,
    signup,
    signout,
    consent,
    account,
    own_password,
    own_profile,
    own_deletion,
    reset,
    forgot,
    address,
)
SLOW_THREADS = 10
"""Of the 40 threads of a process: how many may wait at once for the function in ISSUER_CLAIMS."""
FAST_PATHS = {**jwks.FAST_PATHS, **token.FAST_PATHS}


def create_app(issuer: Issuer, *, alone: bool = False) -> FastAPI:
    """Return the application; its lifespan runs the background tasks and closes the issuer.

    If it is the only process of the server (`alone`), it signs on a second core, where there is one.
    """
    prefix = path_of(issuer.settings.url)
    app = FastAPI(
        title="JWKS issuer",
        version=version("jwks-issuer"),
        description=DESCRIPTION,
        openapi_url=None,  # see pages.api_docs
        docs_url=None,
        redoc_url=None,
        # A redirect would send the request, password included, to the host in the Host header.
        redirect_slashes=False,
        servers=[{"url": prefix}] if prefix else None,
        lifespan=_lifespan,
    )
    _set_state(app, issuer, alone=alone)
    # Not by `include_router`, which builds each route again, for a prefix and dependencies that these have not: that
    # takes three quarters of the time of this function.
    for module in ENDPOINTS:
        app.router.routes.extend(module.router.routes)
    app.include_router(metrics.routes(issuer.settings))
    style.install(app, issuer.settings.logo_image())
    home.install(app, issuer.settings.url)
    api_docs.install(app, prefix)
    discovery.install_rfc8414_paths(app, prefix)
    errors.install(app, render_error)
    app.add_middleware(RefuseLargeBodies)
    app.middleware_stack = _with_middleware(
        app.build_middleware_stack(), PathRedaction(_paths(app)), issuer.settings
    )
    return app


def _set_state(app: FastAPI, issuer: Issuer, *, alone: bool) -> None:
    """Make what endpoints and background tasks of this process share."""
    app.state.issuer = issuer
    app.state.instruments = _connected_instruments(issuer)
    # This and two more are for `issuer.connections`.
    app.state.connection_refused = app.state.instruments.connection_refused
    app.state.key_set = key_set = jwks.RenderedKeySet()
    app.state.listeners = listeners = Listeners(
        partial(jwks.served_etag, issuer, key_set), partial(notify, app.state.instruments.listeners.set)
    )
    app.state.connections_limited, app.state.server_stopping = listeners.leave_room, listeners.stop
    app.state.logouts_due = asyncio.Event()
    app.state.supervisor = build_supervisor(issuer, app.state.instruments, app.state.logouts_due, listeners)
    app.state.probe = health.Probe(app.state.supervisor)
    app.state.signing = _signing_runner(issuer, alone=alone)
    app.state.slow_threads = anyio.CapacityLimiter(SLOW_THREADS)
    app.state.metrics_limiter = anyio.CapacityLimiter(1)


def _signing_runner(issuer: Issuer, *, alone: bool) -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    # A PKCS#11 token signs one at a time, so that a second thread gains nothing.
    if not alone or cores() == 1 or issuer.settings.keys == "pkcs11":
        return run_inline_or_on_thread
    issuer.tokens.group_commit.use_second_core()
    return SigningThread().run


def _connected_instruments(issuer: Issuer) -> instruments.Instruments:
    """Return the metrics of this process, connected to what reports to them."""
    metrics_of_process = instruments.Instruments(path for _, path in FAST_PATHS)
    for database in (issuer.database, issuer.ring_database):
        database.took = metrics_of_process.transaction_took
    issuer.accounts.hashing_pool.changed = metrics_of_process.hashing_jobs.set
    return metrics_of_process


def _paths(app: FastAPI) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        if route.path is not None:
            yield route.path


def _with_middleware(app: ASGIApp, paths: PathRedaction, settings: Settings) -> ASGIApp:
    """Return `app` in its middleware; the outermost is added last."""
    prefix, proxies = path_of(settings.url), TrustedProxies(settings.trusted_proxies)
    app = SetRootPath(app, prefix) if prefix else app
    app = FastPath(app, FAST_PATHS, errors.respond_to)
    app = CommonMethods(app)
    app = RefuseRepeatedHeaders(app)
    app = CrossOrigin(app, settings.cors_origins)
    app = SecurityHeaders(app)
    app = ClientAddress(app, proxies)
    app = AccessLog(app, paths, proxies)
    return StripPrefix(app, prefix) if prefix else app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    issuer: Issuer = app.state.issuer
    try:
        # A process does not start without a usable ring; one that has a ring refreshes it within a second.
        if not issuer.keys.node.has_seen_ring:
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
