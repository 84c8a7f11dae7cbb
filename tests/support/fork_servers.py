"""Fork servers of multiprocessing that are forked as well, from a process that has imported everything.

A server with workers starts another interpreter, from which it forks them. Here a copy of the process, made before
the server's first line runs, waits until multiprocessing would start that interpreter, and then runs what it would.
Only the first start is replaced; later ones, such as after the copy was killed, are real.
"""

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from typing import Any

from issuer.metrics_directory import VARIABLE
from issuer.serving.signals import FOR_SERVERS
from issuer.web import metric_values

MESSAGE_BYTES = 1024 * 1024
HIGH = 200
"""Descriptors from here on are free at the start of a server."""
_start: Any = util.spawnv_passfds  # type: ignore[attr-defined]


def share_values_as_at_import() -> None:
    """Decide again what the import of the metrics decided from the environment."""
    if VARIABLE in os.environ:
        metric_values.share_values()


def keep_copy() -> None:
    """Fork the copy that becomes the fork server of this process."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        try:
            _wait_and_serve(theirs)
        finally:
            os._exit(1)
    theirs.close()

    def start(path: bytes, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        code = arguments[-1]
        if "multiprocessing.forkserver" not in code or ours.fileno() < 0:
            started: int = _start(path, arguments, descriptors)
            return started
        message = {"code": code, "descriptors": list(descriptors), "environment": dict(os.environ)}
        with ours:
            socket.send_fds(ours, [json.dumps(message).encode()], list(descriptors))
        return pid

    util.spawnv_passfds = start  # type: ignore[attr-defined,assignment]


def _wait_and_serve(asked: socket.socket) -> None:
    """Become the fork server once asked to; end if the server ends before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_SERVERS)  # as it is when multiprocessing starts one
    data, received, _, _ = socket.recv_fds(asked, MESSAGE_BYTES, 8)
    if not data:
        os._exit(0)
    message = json.loads(data)
    _keep_only(dict(zip(message["descriptors"], received, strict=True)))
    os.environ.clear()
    os.environ.update(message["environment"])
    share_values_as_at_import()
    forkserver._forkserver.__init__()  # type: ignore[attr-defined,misc]
    resource_tracker._resource_tracker.__init__()  # type: ignore[attr-defined,misc]
    try:
        exec(message["code"], {})  # noqa: S102 - what multiprocessing would run
    except SystemExit:
        sys.stderr.flush()
        os._exit(0)


def _keep_only(wanted: dict[int, int]) -> None:
    """Give each received descriptor its number, and close all but them and the standard files."""
    moved = {
        number: os.dup2(received, HIGH + place) for place, (number, received) in enumerate(wanted.items())
    }
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(3, HIGH)
    for number, high in moved.items():
        os.dup2(high, number)
    os.closerange(HIGH, min(most, HIGH + 1000))
