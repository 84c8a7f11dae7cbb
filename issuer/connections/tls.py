"""TLS on a connection that has been accepted, for both asyncio's event loop and uvloop.

What a connection does with it is described in `protocol`.
"""

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
) -> "Begun":
    """Begin a handshake that fails after so many seconds; await what is returned for the encrypted transport.

    To be called in `connection_made`. The loop puts TLS between transport and protocol in the coroutine's first step,
    and that must be made before uvloop begins to read, which it does right after, whatever was paused.
    """
    return Begun(
        loop.start_tls(transport, protocol, context, server_side=True, ssl_handshake_timeout=seconds)
    )


class Begun:
    """A coroutine of which the first step has been made; awaiting this makes the others."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._awaited = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        awaited = self._awaited
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:  # noqa: BLE001 - a cancellation, too, is the coroutine's to handle
                    awaited = self._coroutine.throw(error)
                else:
                    awaited = self._coroutine.send(sent)
            except StopIteration as end:
                transport: asyncio.Transport | None = end.value
                return transport
