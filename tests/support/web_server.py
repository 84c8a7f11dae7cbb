"""A server of the issuer within the test process, so that real browsers meet a clock that tests move."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from support.servers import HOST, eventually


@contextmanager
def serving(app: ASGIApp, port: int) -> Iterator[None]:
    """Serve an application on loopback until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the server starts")
        yield
    finally:
        server.should_exit = True
        thread.join()
