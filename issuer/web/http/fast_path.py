"""Calls the most frequent endpoints without FastAPI's routing, which would cost more than their work.

They are ordinary endpoints otherwise: FastAPI has routes for the same functions, errors are rendered alike, and
OpenAPI describes them. Each module of `web` lists its own in `FAST_PATHS`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio.to_thread
from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.blocking import WouldBlock, forbid_blocking

T = TypeVar("T")

Endpoint = Callable[[Request], Awaitable[Response]]
ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class FastPath:
    """ASGI middleware: calls the endpoint of exactly these methods and paths, and passes everything else on."""

    def __init__(
        self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint], respond_to: ErrorHandler
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._respond_to = respond_to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint, or pass on."""
        endpoint = self._endpoints.get((scope.get("method", ""), scope.get("path", "")))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["endpoint"] = endpoint  # as FastAPI does
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except Exception as error:  # noqa: BLE001 - there is a handler for each exception
            response = await self._respond_to(request, error)
        await response(scope, receive, send)


async def run_inline_or_on_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns; if it would block the event loop, it is run again from the start on a thread."""
    try:
        with forbid_blocking():
            return work()
    except WouldBlock:
        return await anyio.to_thread.run_sync(work)
