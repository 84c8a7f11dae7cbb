"""The example service: its routes and probes, built by `create_app`.

Verifying tokens and error responses are left to `jwks_verifier`, the bodies of other responses to `bodies`. Run it
with `python -P -m verifier_example`. Under plain uvicorn it has the same limits on connections, with their defaults;
but uvicorn imports modules from the current folder, unless `--app-dir` names one that only you can write to.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Response, Security, WebSocket, WebSocketDisconnect
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from jwks_verifier import AccessToken, Event, JwksCache, State, Timings, TokenVerifier
from jwks_verifier.fastapi import (
    POLICY_VIOLATION,
    CurrentUser,
    accept,
    render_refusal,
    unavailable,
)
from jwks_verifier.http_client import HttpClient
from jwks_verifier.refusals import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    OF_EACH_ROUTE,
    SCOPE_MISSING,
    UNAVAILABLE,
    Refusal,
    Refused,
    documented,
    refused,
)
from verifier_example import docs_page, home_page
from verifier_example.bodies import Claims, Greeting, Health, Item
from verifier_example.browser_sign_in import BrowserSignIn
from verifier_example.connections import bound_connections_of_this_server
from verifier_example.connections.shortages import KINDS, RETRY_SECONDS, is_shortage
from verifier_example.logs import known_paths_only, logged_in_a_thread
from verifier_example.metrics import Metrics
from verifier_example.settings import Settings, load_settings, require_usable

_LEVELS = {  # INFO for the others
    Event.KEY_SKIPPED: logging.WARNING,
    Event.FETCH_FAILED: logging.DEBUG,  # the library logs these in words
    Event.LISTEN_FAILED: logging.DEBUG,  # ordinary fetches continue
    Event.REJECTED: logging.DEBUG,
    Event.UNAVAILABLE: logging.DEBUG,
    Event.ACCEPTED: logging.DEBUG,  # at every request
    Event.SERVED_STALE: logging.DEBUG,
}
_READINESS = {
    State.EMPTY: "no keys have been fetched from the issuer yet",
    State.FRESH: "ready",
    State.STALE: "degraded: the issuer is unreachable; its cached keys are still used",
    State.EXPIRED: "the issuer has been unreachable for too long; its cached keys are no longer used",
}
_DEFAULTS = Timings()
logger = logging.getLogger(__name__)


_NOT_READY = [UNAVAILABLE._replace(description=_READINESS[state]) for state in (State.EMPTY, State.EXPIRED)]
DESCRIPTION = """\
An example of a service that accepts access tokens: those of the issuer `{issuer}` with the audience `{audience}`. It
verifies them with the issuer's published keys. Log in with **Authorize**, or paste a token there.
"""
_pasted_token = HTTPBearer(
    bearerFormat="JWT",
    scheme_name="access_token",
    auto_error=False,
    description="An access token of the issuer.",
)
"""Only for the page: `CurrentUser` reads the token."""


def create_app(
    settings: Settings | None = None,
    *,
    verifier: TokenVerifier | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Build the service from `settings`, by default those of the environment.

    Tests may pass their own verifier, and the metrics that its cache reports to. Raises ValueError for settings with
    which keys cannot be fetched, such as an invalid URL or CA file; with settings of the environment, the process
    ends with one line instead of a traceback.
    """
    metrics = metrics or Metrics()
    chosen, verifier = _configured(settings, verifier, metrics)
    app = FastAPI(
        title="Example service",
        description=DESCRIPTION.format(issuer=chosen.issuer, audience=verifier.audience),
        lifespan=_lifespan,
        openapi_url=None,  # see docs_page
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be built from the Host header, which may be anything
    )
    app.add_exception_handler(HTTPException, _render_error)
    for kind in KINDS:
        app.add_exception_handler(kind, _render_shortage)
    current_user = CurrentUser(verifier, token_url=chosen.issuer.rstrip("/") + "/login")
    app.state.verifier = verifier  # for `_lifespan`
    app.state.connection_refused = metrics.connection_refused  # for `connections`
    app.state.current_user = current_user  # for `dependency_overrides`
    _add_protected_routes(app, current_user)  # first: routes are matched in this order
    _add_socket(app, current_user, verifier)
    _add_probes(app, verifier.cache, metrics)
    home_page.install(app, chosen.issuer, current_user.metadata_path)
    docs_page.install(app, chosen.issuer, _browser_sign_in(chosen))
    app.router.default = _not_found
    return app


def _configured(
    settings: Settings | None, verifier: TokenVerifier | None, metrics: Metrics
) -> tuple[Settings, TokenVerifier]:
    try:
        chosen = settings or load_settings()
        if verifier is None:
            require_usable(chosen)
            verifier = build_verifier(chosen, metrics)
    except ValueError as error:
        if settings is not None:
            raise
        raise SystemExit(f"the service cannot start: {error}") from None
    return chosen, verifier


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    bound_connections_of_this_server()
    paths = [route.path for route in iter_route_contexts(app.routes) if route.path]
    with known_paths_only(paths), logged_in_a_thread():
        async with app.state.verifier:
            yield


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Answer 404 with a body for any other path, also of a WebSocket, where the framework sends no body."""
    raise HTTPException(HTTPStatus.NOT_FOUND)


async def _render_error(connection: HTTPConnection, error: Exception) -> Any:
    """Render the errors of the framework (404, 405) as those of the library, and answer OPTIONS everywhere."""
    if isinstance(error, Refused) or not isinstance(error, HTTPException):
        return await render_refusal(connection, error)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        methods = {*headers["Allow"].split(", "), "OPTIONS"}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    method, path = connection.scope.get("method"), connection.scope["path"]
    if method == "OPTIONS" and (path == "*" or error.status_code == HTTPStatus.METHOD_NOT_ALLOWED):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)  # RFC 9110 section 9.3.7
    status = HTTPStatus(error.status_code)
    unnamed = Refusal(status, status.name.lower(), status.phrase, "")
    refusal = next((each for each in (NOT_FOUND, METHOD_NOT_ALLOWED) if each.status is status), unnamed)
    return await render_refusal(connection, refused(refusal, **headers))


async def _render_shortage(connection: HTTPConnection, error: Exception) -> Any:
    """Answer 503 when the system has no more threads, memory or files for this process."""
    if not is_shortage(error):
        raise error
    logger.error("cannot answer: %s", error)
    return await render_refusal(connection, unavailable("the service cannot answer now", RETRY_SECONDS))


def build_verifier(settings: Settings, metrics: Metrics | None = None) -> TokenVerifier:
    """Return the verifier that the settings describe; it reports to the log and to `metrics`."""

    def on_event(event: Event, detail: str) -> None:
        if metrics is not None:  # before logging, which may fail
            metrics.count(event, detail)
        logger.log(_LEVELS.get(event, logging.INFO), "%s %s", event, detail)

    cache = JwksCache(
        settings.issuer,
        jwks_url=settings.jwks_url,
        algorithms=settings.algorithms,
        listen=settings.listen,
        timings=Timings(
            ttl_floor=settings.ttl_floor,
            ttl_ceiling=max(settings.ttl_floor, _DEFAULTS.ttl_ceiling),
            cooldown=settings.cooldown,
            cooldown_empty=min(settings.cooldown, _DEFAULTS.cooldown_empty),
            max_stale=settings.max_stale,
        ),
        allow_http=settings.allow_http,
        ca_file=settings.ca_file,
        proxy=settings.proxy.get_secret_value() if settings.proxy else None,
        name=settings.name,
        on_event=on_event,
    )
    return TokenVerifier(cache, settings.audience)


def _browser_sign_in(settings: Settings) -> BrowserSignIn | None:
    if settings.docs_client_id is None:
        return None
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    client = HttpClient(Timings(), ca_file=settings.ca_file, proxy=proxy)
    return BrowserSignIn(settings.docs_client_id, settings.issuer, client, settings.allow_http)


def _add_probes(app: FastAPI, cache: JwksCache, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["probes"], summary="Check that the process runs")
    async def healthz() -> Health:
        """Answer 200 while the process runs."""
        return Health(status="ok")

    @app.get(
        "/readyz",
        tags=["probes"],
        summary="Check that tokens can be verified",
        responses=documented(*_NOT_READY),
    )
    async def readyz() -> Health:
        """Return whether tokens can be verified."""
        if cache.usable is None:
            raise unavailable(_READINESS[cache.state], cache.retry_after)
        return Health(status=_READINESS[cache.state])

    @app.get(
        "/metrics",
        tags=["probes"],
        summary="Read the metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
    )
    async def read_metrics() -> Response:
        """Return metrics in Prometheus' text format; no token is needed, so this works while the issuer is down."""
        return Response(metrics.render(cache), media_type=CONTENT_TYPE_LATEST)


def _add_protected_routes(app: FastAPI, current_user: CurrentUser) -> None:
    AnyUser = Annotated[AccessToken, Security(current_user)]  # noqa: N806 - a type
    ItemsReader = Annotated[  # noqa: N806 - a type
        AccessToken, current_user.with_scope("items:read", "Read the items")
    ]

    protected = APIRouter(
        tags=["protected"], dependencies=[Security(_pasted_token)], responses=documented(*OF_EACH_ROUTE)
    )

    @protected.get("/protected_route", summary="Greet the caller")
    async def protected_route(user: AnyUser) -> Greeting:
        """Return a greeting with the name of the token's user or client."""
        return _greeting(user)

    @protected.get("/me", summary="Show my claims", response_model_exclude_none=True)
    async def me(user: AnyUser) -> Claims:
        """Return the claims of the token."""
        return Claims.of(user)

    @protected.get("/items", summary="List the items", responses=documented(SCOPE_MISSING))
    async def items(_: ItemsReader) -> list[Item]:
        """Return all items; the token needs the scope `items:read`."""
        return [Item(id=1, name="a first item"), Item(id=2, name="a second item")]

    app.include_router(protected)
    app.include_router(current_user.router)


def _add_socket(app: FastAPI, current_user: CurrentUser, verifier: TokenVerifier) -> None:
    @app.websocket("/greetings")
    async def greetings(websocket: WebSocket, user: Annotated[AccessToken, Security(current_user)]) -> None:
        """Greet the caller at once and at each message, while the token is valid."""
        await accept(websocket)
        try:
            async with asyncio.timeout(verifier.remaining(user)):
                while True:
                    await websocket.send_json(_greeting(user).model_dump())
                    if (await websocket.receive())["type"] == "websocket.disconnect":
                        return
        except TimeoutError:
            await websocket.close(POLICY_VIOLATION, "token expired")
        except WebSocketDisconnect:
            pass


def _greeting(user: AccessToken) -> Greeting:
    return Greeting(message=f"Hello, {user.username or user.client_id}")
