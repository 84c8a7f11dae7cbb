"""A process of `issuer serve`: makes its application, and ends a worker whose parent has ended.

Starting and stopping processes is left to `supervisor` and uvicorn.
"""

import gc
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.util import Finalize

import structlog
from fastapi import FastAPI

from issuer import metrics_directory
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError
from issuer.logs import configure_log, flush_log, serve_with_log
from issuer.services import Issuer
from issuer.serving.signals import NOT_READY
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings
from issuer.web.app import create_app
from issuer.wiring import build

STOP_SECONDS = 1.0
EXIT_SECONDS = 0.5
RETRY_SECONDS = 2.0


def create_worker() -> FastAPI:
    """Return the application of a worker, which ends with its parent; uvicorn calls this in each worker."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    configure_log()
    serve_with_log()
    Finalize(None, flush_log, exitpriority=-1)  # processes of multiprocessing end without atexit
    # uvicorn's handlers only set a flag, which nothing reads before the worker serves.
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    issuer = _built()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return application(issuer, alone=False)


def _built() -> Issuer:
    """Return the issuer once it has read the key ring; retry until then.

    The main process did so before it started workers, so the failure may be temporary. A worker that ended here would
    end the whole server, because uvicorn treats that as a defect of the application.
    """
    while True:
        try:
            issuer = build(load_settings())
            try:
                issuer.keys.node.refresh()
            except BaseException:
                issuer.close()
                raise
        except (BadSettings, KeyRingError, StoreError) as error:
            structlog.get_logger("issuer.serve").error("worker startup failed, retrying", reason=str(error))
            time.sleep(RETRY_SECONDS)
        else:
            return issuer


def application(issuer: Issuer, *, alone: bool = True) -> FastAPI:
    """Return the application of the only process, or of one of several."""
    app = create_app(issuer, alone=alone)
    signal.signal(NOT_READY, lambda *_: _drain(app))
    # The objects loaded so far stay: scanning them at each garbage collection would only pause requests.
    gc.collect()
    gc.freeze()
    return app


def _drain(app: FastAPI) -> None:
    app.state.probe.mark_stopping()
    app.state.listeners.stop()


def _end_with_parent(parent: multiprocessing.process.BaseProcess) -> None:
    """End when the parent has ended: an orphaned worker would keep the port, and nothing would stop it.

    `join` also returns if the parent has replaced this worker, because it did not answer in time.
    """
    # If it cannot be determined whether the parent runs, the worker ends as well, and is replaced.
    with suppress(Exception):
        parent.join()
        if parent.pid is not None and _has_ended(parent.pid):
            metrics_directory.remove_directory_of(parent.pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)  # for open requests
    flush_log()
    os._exit(1)


def _has_ended(pid: int) -> bool:
    """Whether a process has ended, or ends within a moment, even if its parent has not reaped it."""
    if sys.platform != "linux":
        return True
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], EXIT_SECONDS)
    return bool(ended)
