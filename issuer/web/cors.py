"""Which browser applications of other origins may read answers: CORS, as the Fetch standard has it.

Which origins are named is the operator's setting.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PUBLIC = "/.well-known/"
"""What verifiers read, open to every origin; answers that are errors too, or no script could tell why."""
_PUBLIC_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id"),
]


class CrossOrigin:
    """ASGI middleware: what verifiers read is open to every origin, everything else to the named ones."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._public = CORSMiddleware(
            app, allow_origins=["*"], allow_methods=["GET", "HEAD"], allow_headers=["*"]
        )
        self._named = CORSMiddleware(
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
