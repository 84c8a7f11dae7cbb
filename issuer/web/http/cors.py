"""CORS (the Fetch standard): browser applications of which origins may read responses.

The origins are a setting, `ISSUER_CORS_ORIGINS`.
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
NEVER = "/oauth2/authorize"
"""Where browsers navigate, and no script may read a response, OAuth 2.1 section 3.1."""
_PUBLIC_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id"),
]


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
    """ASGI middleware: opens what verifiers read to every origin, and everything else to the configured ones."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._public = _Policy(app, allow_origins=["*"], allow_methods=["GET", "HEAD"], allow_headers=["*"])
        self._configured = _Policy(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            # Tracing libraries add headers to every request; the issuer acts on none of them.
            allow_headers=["*"],
            # For the device cookie.
            allow_credentials=bool(origins),
            expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights and add the headers."""
        if scope["type"] != "http" or scope["path"] == NEVER:
            await self._app(scope, receive, send)
        elif scope["path"].startswith(PUBLIC):
            if scope["method"] == "OPTIONS" and _is_preflight(scope):
                await self._public(scope, receive, send)
            else:
                await self._app(scope, receive, _public(send))
        elif scope["method"] == "POST" and not any(name == b"origin" for name, _ in scope["headers"]):
            # No cache stores the response, so it needs no Vary header.
            await self._app(scope, receive, send)
        else:
            await self._configured(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _public(send: Send) -> Send:
    """Return a `send` that adds headers which let every origin read the response."""

    async def send_public(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_PUBLIC_HEADERS]
        await send(message)

    return send_public
