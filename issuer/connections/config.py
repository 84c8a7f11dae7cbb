"""uvicorn's configuration with limits for its connections, which count from before the TLS handshake."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn

from .accepting import pace
from .limits import Limits
from .protocol import Connection


class Config(uvicorn.Config):
    """uvicorn's configuration with limits; workers get a copy."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        options.setdefault("http", Connection)
        super().__init__(app, **options)
        self.limits = limits
        self.tls: Any = None  # an ssl.SSLContext

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return a factory of event loops that accept connections only while there is room for them."""
        make = super().get_loop_factory() or asyncio.new_event_loop
        return lambda: pace(make())

    def load(self) -> None:
        """Load the application; move the TLS context from uvicorn to the connections."""
        super().load()
        self.tls, self.ssl = self.ssl, None
