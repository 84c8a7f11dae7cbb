"""The directory in which the processes of one server store their metrics, so that each of them can report the sum.

It must be in the environment before prometheus-client is imported. The metrics are defined in `web.instruments`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class NoDirectory(OSError):
    """PROMETHEUS_MULTIPROC_DIR is not a directory."""


@contextmanager
def shared_metrics_directory(processes: int) -> Iterator[str | None]:
    """Let processes that are started in the block share a directory, which is private and removed at the end.

    A single process needs none, and a directory of the operator (PROMETHEUS_MULTIPROC_DIR) is kept. Yield a warning
    if none can be created; then each process exports its own metrics. Raise NoDirectory if the operator's does not
    exist.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise NoDirectory(f"{VARIABLE}: no such directory: {named}; create it, or unset {VARIABLE}")
        yield None
        return
    os.environ.pop(VARIABLE, None)  # an empty value would mean the current directory
    if processes == 1:
        yield None
        return
    try:
        made = tempfile.mkdtemp(prefix=_prefix(os.getpid()))
    except OSError as error:
        yield (
            f"/metrics shows one worker at a time: no temporary directory can be created ({error}); free disk space"
            " or set TMPDIR, then restart"
        )
        return
    os.environ[VARIABLE] = made
    try:
        yield None
    finally:
        os.environ.pop(VARIABLE, None)
        shutil.rmtree(made, ignore_errors=True)


def drop_gauges(pid: int) -> None:
    """Drop the gauges of a process that has ended; its counters stay in the sums."""
    if VARIABLE not in os.environ:
        return
    # Imported here because it takes long, and most commands do not need it.
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    with suppress(OSError):  # the directory was cleaned up
        mark_process_dead(pid, os.environ[VARIABLE])  # type: ignore[no-untyped-call]


def remove_directory_of(parent: int) -> None:
    """Remove the directory of the parent process, which was killed before it could."""
    named = Path(os.environ.get(VARIABLE, ""))
    if named.name.startswith(_prefix(parent)):
        shutil.rmtree(named, ignore_errors=True)


def _prefix(pid: int) -> str:
    return f"issuer-{pid}-"
