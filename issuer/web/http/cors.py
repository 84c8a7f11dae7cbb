"""CORS (the Fetch standard): browser applications of which origins may read responses.

Applications of every origin may read what verifiers read, and use the endpoints that take no cookie: a response tells
them nothing that another program could not ask for. The endpoints of accounts read the device cookie, and are open to
the origins in ISSUER_CORS_ORIGINS. Pages, the authorization endpoint (OAuth 2.1 section 3.1) and introspection, which
only servers may use, are open to none.
"""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from issuer.oauth import InvalidRequest

PUBLIC = "/.well-known/"
"""What verifiers read, open to every origin; error responses too, so that scripts can read the reason."""
OPEN = frozenset({"/oauth2/token", "/oauth2/revoke", "/oauth2/par", "/oauth2/userinfo"})
"""For clients, open to every origin; none of them reads a cookie."""
CONFIGURED = ("/login", "/logout", "/users")
"""For the configured origins, with what is below them."""

_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = b"access-control-expose-headers"
_PUBLIC_HEADERS = [_ANY_ORIGIN, (_EXPOSED, b"ETag, Retry-After, X-Request-Id")]
_OPEN_HEADERS = [_ANY_ORIGIN, (_EXPOSED, b"WWW-Authenticate, DPoP-Nonce, Retry-After, X-Request-Id")]


class _Policy(CORSMiddleware):
    """Starlette's CORS middleware with OAuth errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        error = InvalidRequest(f"not allowed across origins: {refused}")
        return JSONResponse(
            {"error": error.code, "error_description": error.description}, response.status_code, kept
        )


class CrossOrigin:
    """ASGI middleware: adds the headers of each group of paths; the others have none."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._public = _Policy(app, allow_origins=["*"], allow_methods=["GET", "HEAD"], allow_headers=["*"])
        self._open = _Policy(
            app, allow_origins=["*"], allow_methods=["GET", "HEAD", "POST"], allow_headers=["*"]
        )
        self._configured = _Policy(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            # Tracing libraries add headers to every request; the issuer acts on none of them.
            allow_headers=["*"],
            # For the device cookie.
            allow_credentials=bool(origins),
            expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights and add the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(PUBLIC):
            await self._answer(self._public, _PUBLIC_HEADERS, scope, receive, send)
        elif path in OPEN:
            # No cache stores the response, so it need not be the same for other requests.
            headers = _OPEN_HEADERS if _has(scope, b"origin") else []
            await self._answer(self._open, headers, scope, receive, send)
        elif path.startswith(CONFIGURED) and (scope["method"] != "POST" or _has(scope, b"origin")):
            await self._configured(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(
        self,
        preflight: ASGIApp,
        headers: Sequence[tuple[bytes, bytes]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a preflight by one policy, and add `headers` to every other response."""
        if scope["method"] == "OPTIONS" and _has(scope, b"access-control-request-method"):
            await preflight(scope, receive, send)
        else:
            await self._app(scope, receive, _adding(headers, send) if headers else send)


def _has(scope: Scope, header: bytes) -> bool:
    return any(name == header for name, _ in scope["headers"])


def _adding(headers: Sequence[tuple[bytes, bytes]], send: Send) -> Send:
    """Return a `send` that adds headers which let every origin read the response."""

    async def send_open(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return send_open
