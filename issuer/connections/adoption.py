"""Bounded connections for an application that was started by `uvicorn module:app`, which names no protocol class.

Who starts uvicorn by a program uses `Config` instead.
"""

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .protocol import Connection

logger = logging.getLogger("uvicorn.error")


def bound_connections_of_this_server() -> None:
    """Let the uvicorn that runs the calling lifespan make bounded connections; it accepts none before that has begun.

    uvicorn gives an application no way to choose. Its lifespan object, which holds the configuration, is therefore
    taken from the running task. Nothing is changed under another server, or if a protocol class was chosen.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro() if task else None, "cr_frame", None)
    config = getattr(frame.f_locals.get("self") if frame else None, "config", None)
    if isinstance(config, uvicorn.Config) and config.http_protocol_class is HttpToolsProtocol:
        config.http_protocol_class = Connection
