"""Starts TLS on an accepted connection, for the event loops of asyncio and uvloop."""

import asyncio
import ssl
from collections.abc import Coroutine, Generator
from typing import Any


def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    seconds: float,
) -> "Started":
    """Start a handshake that fails after so many seconds; await the result for the encrypted transport.

    To be called in `connection_made`: the coroutine's first step puts TLS between transport and protocol, and must
    run before uvloop begins to read, which it does right afterwards even if reading is paused.
    """
    return Started(
        loop.start_tls(transport, protocol, context, server_side=True, ssl_handshake_timeout=seconds)
    )


class Started:
    """A coroutine that has run its first step; awaiting this runs the others."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._awaited = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        awaited = self._awaited
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:  # noqa: BLE001 - the coroutine handles cancellation, too
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(sent)
            except StopIteration as end:
                transport: asyncio.Transport | None = end.value
                return transport
