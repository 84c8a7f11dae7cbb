"""Connections of a worker that stops: an idle one stays open for a moment, as a request may be in flight.

Limits are defined in `issuer.connections`; everything else is left to uvicorn.
"""

from issuer import connections

IN_FLIGHT_SECONDS = 1.0


class Connection(connections.Connection):
    """Closes idle connections with a delay: a request may be in flight, and proxies do not retry a POST."""

    _is_stopping = False

    def shutdown(self) -> None:
        """Finish open requests and those that arrive within a moment, then close."""
        self._is_stopping = True
        cycle = getattr(self, "cycle", None)  # uvicorn's types say that there always is one
        if cycle is None or cycle.response_complete:
            self.loop.call_later(IN_FLIGHT_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Start to respond; the last response has `Connection: close`, so that the proxy sends no further request."""
        super().on_headers_complete()
        if self._is_stopping and self.cycle is not None:
            self.cycle.keep_alive = False
