"""One process of `issuer serve`: the factory that uvicorn calls in each.

Starting and stopping processes is uvicorn's.
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
from issuer.serving.signals import NOT_READY
from issuer.settings.settings import BadSettings, load_settings
from issuer.web.app import create_app
from issuer.wiring import Issuer, build

STOP_SECONDS = 1.0
MOMENT_SECONDS = 0.5
AGAIN_SECONDS = 2.0


def create_worker() -> FastAPI:
    """Return the application for the settings of this process, which ends with its parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    configure_log()
    serve_with_log()
    Finalize(None, flush_log, exitpriority=-1)  # processes of multiprocessing end without atexit
    # uvicorn's handlers only take note, and nobody would look while this waits; till now there is nothing to finish.
    noting = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    issuer = _built()
    for number, handler in noting.items():
        signal.signal(number, handler)
    return application(issuer, alone=False)


def _built() -> Issuer:
    """Return the issuer with a view of the key ring, however long that takes.

    The first process looked before the server began, and what is out of reach now may come back. Ending would end
    the whole server, or keep its first process waiting for an answer from this one.
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
            structlog.get_logger("issuer.serve").error(
                "a worker waits for the startup of another one", reason=str(error)
            )
            time.sleep(AGAIN_SECONDS)
        else:
            return issuer


def application(issuer: Issuer, *, alone: bool = True) -> FastAPI:
    """Return the application of the only process, or of one of several."""
    app = create_app(issuer, alone=alone)
    signal.signal(NOT_READY, lambda *_: app.state.probe.leave())
    # What is loaded now stays: looking for garbage in it again would halt requests in vain.
    gc.collect()
    gc.freeze()
    return app


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """End with the parent: a worker left behind would hold the port and answer with nobody to stop it.

    Or when the parent, which lives, has replaced this process, and believes it has ended.
    """
    # A process that cannot tell whether its parent lives ends, too, and is replaced.
    with suppress(Exception):
        parent.join()
        if parent.pid is not None and _has_ended(parent.pid):
            metrics_directory.clear_up_for(parent.pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)  # what is being answered may finish
    flush_log()
    os._exit(1)


def _has_ended(pid: int) -> bool:
    """Whether a process has ended, or does within a moment, even if nobody has taken note of it yet."""
    if sys.platform != "linux":
        return True
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], MOMENT_SECONDS)
    return bool(ended)
