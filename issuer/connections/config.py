"""uvicorn's configuration with limits for its connections.

uvicorn would leave the connections to the event loop until TLS is agreed on; here they count from the beginning.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn

from .accepting import pace
from .limits import Limits
from .protocol import Connection


class Config(uvicorn.Config):
    """uvicorn's own, which its worker processes get with the limits in it."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        options.setdefault("http", Connection)
        super().__init__(app, **options)
        self.limits = limits
        self.tls: Any = None  # an ssl.SSLContext

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return what makes the event loop, which accepts connections only when there is room for them."""
        make = super().get_loop_factory() or asyncio.new_event_loop
        return lambda: pace(make())

    def load(self) -> None:
        """Load the application, and keep the TLS context for the connections themselves."""
        super().load()
        self.tls, self.ssl = self.ssl, None
