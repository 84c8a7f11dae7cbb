"""Connections of a worker that stops: one on which a request may be on its way is not closed under it.

Everything else about connections is uvicorn's.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FIRST_REQUEST_SECONDS = 0.5


class Connection(HttpToolsProtocol):
    """uvicorn closes at once what has no request yet; but who has just connected is about to send one."""

    def shutdown(self) -> None:
        """Finish what is being answered, and close then."""
        if getattr(self, "cycle", None) is None:  # uvicorn's types say that there always is one
            self.loop.call_later(FIRST_REQUEST_SECONDS, super().shutdown)
        else:
            super().shutdown()
