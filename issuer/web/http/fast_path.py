"""The endpoints asked most often, served below FastAPI's routing: it costs more than their work.

They are ordinary endpoints all the same: the same function answers, the same errors are written, and OpenAPI
describes them. Each module of `web` lists its own in `FAST_PATHS`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio.to_thread
from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.blocking import WouldBlock, forbid_blocking

T = TypeVar("T")

Endpoint = Callable[[Request], Awaitable[Response]]
Writer = Callable[[Request, Exception], Awaitable[Response]]


class FastPath:
    """ASGI middleware: exactly these methods and paths are answered here, everything else below."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint], write: Writer) -> None:
        self._app = app
        self._endpoints = endpoints
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        endpoint = self._endpoints.get((scope.get("method", ""), scope.get("path", "")))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except Exception as error:  # noqa: BLE001 - the one place that writes errors knows each of them
            response = await self._write(request, error)
        await response(scope, receive, send)


async def answer(work: Callable[[], T]) -> T:
    """Return what `work` returns: done here if it need not wait, else from the beginning on a thread that may."""
    try:
        with forbid_blocking():
            return work()
    except WouldBlock:
        return await anyio.to_thread.run_sync(work)
