"""The access log: one line for each request except probes, with an id that all log lines of the request have.

Query and headers are not logged, and of the path only known segments, because a token may be in any of them.
`path_redaction` decides which segments are known.
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
ADDRESS_MOST_CHARACTERS = 45
"""The longest form of an IPv6 address; a proxy may send anything."""
_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class AccessLog:
    """ASGI middleware: gives each request an id, of a trusted proxy or a random one, and logs the request."""

    def __init__(self, app: ASGIApp, paths: PathRedaction, proxies: TrustedProxies) -> None:
        self._app = app
        self._paths = paths
        self._proxies = proxies
        self._log = structlog.get_logger("issuer.requests").bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, add the id to the response, and log the result."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            # The context of a connection may have the id of an earlier request.
            request_id.set(None)
            await self._app(scope, receive, send)
            return
        name = self._proxy_id(scope) or secrets.token_hex(8).encode()
        began, status = time.perf_counter(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (ID_HEADER, name)]
            await send(message)

        request_id.set(name.decode())
        path = self._paths.redacted(scope["path"])
        if is_traced(scope):
            notify(describe_span, scope, path)
        try:
            await self._app(scope, receive, send_named)
        finally:
            # A request that waits for a change of the JWKS takes half a minute and no work.
            waited = scope["state"].get("waited_seconds", 0) if "state" in scope else 0
            self._log.info(
                "request",
                method=scope["method"],
                path=path,
                status=status,
                client=scope["client"][0][:ADDRESS_MOST_CHARACTERS] if scope.get("client") else None,
                milliseconds=round((time.perf_counter() - began - waited) * 1000, 1),
                **({"waited_milliseconds": round(waited * 1000, 1)} if waited else {}),
            )

    def _proxy_id(self, scope: Scope) -> bytes | None:
        """Return the request id of a trusted proxy, if it is fit for a log."""
        if not scope.get("client") or not self._proxies.trusts(scope["client"][0]):
            return None
        ids = [value for name, value in scope["headers"] if name == ID_HEADER]
        return ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else None
