"""Several processes of `issuer serve`: uvicorn's supervisor, who tells when what one of them measured is void.

Where they count is told in `counting`.
"""

from uvicorn.supervisors import Multiprocess

from issuer import counting


class Supervisor(Multiprocess):
    """Starts, watches and replaces the processes."""

    _known: frozenset[int | None] = frozenset()

    def keep_subprocess_alive(self) -> None:
        """Replace who has ended, and forget the gauges of all who are gone since, for whatever reason."""
        super().keep_subprocess_alive()
        running = frozenset(process.pid for process in self.processes)
        for pid in self._known - running:
            if pid is not None:
                counting.forget(pid)
        self._known = running
