"""The private parts of uvicorn and multiprocessing that this package replaces, as neither has an option for it.

1. `spawn` of `uvicorn._subprocess`, in its line `return spawn.Process(target=subprocess_started, kwargs=kwargs)`:
   workers are forked from a fork server, which has imported what they need, and share its memory. Not needed once
   uvicorn takes a multiprocessing context.
2. `ForkServerProcess._Popen` of `multiprocessing.context`, which only does `return Popen(process_obj)`: signals are
   blocked meanwhile, and a worker is spawned where the fork server cannot be reached. Not needed once multiprocessing
   has a hook around starting a process.
3. `Process.ping` of `uvicorn.supervisors.multiprocess`, in its line `if self.parent_conn.poll(timeout):`: the parent
   holds both ends of the pipe, so the ping of a dead worker blocks for the full timeout. Not needed once uvicorn
   closes the end of the child, or looks at `process.is_alive()` meanwhile.

Stopping and replacing workers is left to `supervisor`.
"""

import multiprocessing
import signal
import time
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import structlog
from uvicorn import _subprocess as uvicorn_subprocess
from uvicorn.supervisors import multiprocess as uvicorn_multiprocess

from issuer.serving.signals import FOR_SERVERS

log = structlog.get_logger("issuer.serve")

PING_SECONDS = 0.1


def fork_workers_from_preloaded_process() -> None:
    """Make uvicorn fork its workers from a process that has imported `serving.preload`."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["issuer.serving.preload"])
    uvicorn_subprocess.spawn = SimpleNamespace(Process=_WorkerProcess)  # type: ignore[assignment]
    uvicorn_multiprocess.Process = _WorkerHandle  # type: ignore[misc]


class _WorkerProcess(ForkServerProcess):
    """A process that is forked from the fork server, or spawned if that cannot be reached.

    The socket of the fork server is in the directory for temporary files, whose path may be too long for a socket, or
    which may be cleaned.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - the name in multiprocessing
        resource_tracker.ensure_running()  # before the mask is set: it unblocks signals when it starts
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SERVERS)  # inherited, see `serving.preload`
        try:
            return ForkServerProcess._Popen(process_obj)  # noqa: SLF001 - see the module
        except (OSError, EOFError) as error:
            log.warning("fork server unreachable, worker spawned without shared memory", reason=str(error))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return SpawnProcess._Popen(process_obj)  # noqa: SLF001 - see the module


class _WorkerHandle(uvicorn_multiprocess.Process):
    """The supervisor's handle of a worker, with a ping that ends when the process has ended."""

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the worker answers in time; False as soon as its process has ended."""
        deadline = time.monotonic() + timeout
        while self.process.is_alive() and time.monotonic() < deadline:
            if super().ping(PING_SECONDS):
                return True
        return False
