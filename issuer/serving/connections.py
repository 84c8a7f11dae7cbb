"""Connections of a worker that stops: one on which a request may be on its way is not closed under it.

What a connection may cost is defined in `issuer.connections`; everything else is uvicorn's.
"""

from issuer import connections

ON_ITS_WAY_SECONDS = 1.0


class Connection(connections.Connection):
    """uvicorn closes at once what has no request; but one may be on its way, and a proxy sends no POST twice."""

    _leaving = False

    def shutdown(self) -> None:
        """Finish what is being answered, and what comes within a moment, and close then."""
        self._leaving = True
        cycle = getattr(self, "cycle", None)  # uvicorn's types say that there always is one
        if cycle is None or cycle.response_complete:
            self.loop.call_later(ON_ITS_WAY_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def on_headers_complete(self) -> None:
        """Begin to answer a request; the last one says so, and no proxy sends another after it."""
        super().on_headers_complete()
        if self._leaving and self.cycle is not None:
            self.cycle.keep_alive = False
