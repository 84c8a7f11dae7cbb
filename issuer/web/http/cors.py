"""Which browser applications of other origins may read answers: CORS, as the Fetch standard has it.

Which origins are named is the operator's setting.
"""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from issuer.oauth import InvalidRequest

PUBLIC = "/.well-known/"
"""What verifiers read, open to every origin; answers that are errors too, or no script could tell why."""
_PUBLIC_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id"),
]


class _Policy(CORSMiddleware):
    """Starlette's, with errors in the shape of this service."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        refused = bytes(answer.body).decode().removeprefix("Disallowed CORS ")
        error = InvalidRequest(f"not allowed across origins: {refused}")
        return JSONResponse(
            {"error": error.code, "error_description": error.description}, answer.status_code, kept
        )


class CrossOrigin:
    """ASGI middleware: what verifiers read is open to every origin, everything else to the named ones."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._public = _Policy(app, allow_origins=["*"], allow_methods=["GET", "HEAD"], allow_headers=["*"])
        self._named = _Policy(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # tracing libraries add theirs to every request, and none is acted upon
            allow_credentials=bool(origins),  # for the cookie that names the device
            expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights and add the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith(PUBLIC):
            if scope["method"] == "OPTIONS" and _is_preflight(scope):
                await self._public(scope, receive, send)
            else:
                await self._app(scope, receive, _public(send))
        elif scope["method"] == "POST" and not any(name == b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)  # kept by no cache, it need not say that it may vary
        else:
            await self._named(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _public(send: Send) -> Send:
    """Return `send`, adding that every origin may read the answer."""

    async def send_public(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_PUBLIC_HEADERS]
        await send(message)

    return send_public
