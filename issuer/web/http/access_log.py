"""One line in the log for each request, probes apart, and an id by which all lines about it are found.

Neither the query nor any header is logged, and of the path only words that this service knows: a token may be in
any of them. Which words those are is defined in `paths`.
"""

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from issuer.callbacks import notify
from issuer.logs import request_id
from issuer.web.http.path_redaction import PathRedaction
from issuer.web.http.proxies import TrustedProxies
from issuer.web.http.tracing import describe_span, is_traced

ID_HEADER = b"x-request-id"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
ADDRESS_MOST_CHARACTERS = 45  # an IPv6 address that ends as an IPv4 one; a proxy may hand on anything
_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class RequestLog:
    """ASGI middleware: names each request, by the id that a trusted proxy gave it or by a random one, and logs it."""

    def __init__(self, app: ASGIApp, paths: PathRedaction, proxies: TrustedProxies) -> None:
        self._app = app
        self._paths = paths
        self._proxies = proxies
        self._log = structlog.get_logger("issuer.requests").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, tell the id in the answer, and log how it went."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            request_id.set(None)  # a connection may have carried another request before
            await self._app(scope, receive, send)
            return
        name = self._brought(scope) or secrets.token_hex(8).encode()
        began, status = time.perf_counter(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (ID_HEADER, name)]
            await send(message)

        request_id.set(name.decode())
        path = self._paths.shown(scope["path"])
        if is_traced(scope):
            notify(describe_span, scope, path)
        try:
            await self._app(scope, receive, send_named)
        finally:
            self._log.info(
                "request",
                method=scope["method"],
                path=path,
                status=status,
                client=scope["client"][0][:ADDRESS_MOST_CHARACTERS] if scope.get("client") else None,
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
            )

    def _brought(self, scope: Scope) -> bytes | None:
        """Return the id that a trusted proxy gave, if it is one that a log can hold."""
        if not scope.get("client") or not self._proxies.trusts(scope["client"][0]):
            return None
        brought = [value for name, value in scope["headers"] if name == ID_HEADER]
        return brought[0] if len(brought) == 1 and _ID.fullmatch(brought[0]) else None
