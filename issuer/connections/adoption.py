"""Limits for an application that is started by `uvicorn module:app`, which cannot set a protocol class.

Programs that start uvicorn themselves use `Config` instead.
"""

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .protocol import Connection

logger = logging.getLogger("uvicorn.error")


def bound_connections_of_this_server() -> None:
    """Make the uvicorn that runs the calling lifespan use limited connections; it has accepted none at this point.

    uvicorn has no option for this. So its configuration is taken from the lifespan object in the running task.
    Nothing is changed for another server, or if a protocol class was set.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro() if task else None, "cr_frame", None)
    config = getattr(frame.f_locals.get("self") if frame else None, "config", None)
    if isinstance(config, uvicorn.Config) and config.http_protocol_class is HttpToolsProtocol:
        config.http_protocol_class = Connection
