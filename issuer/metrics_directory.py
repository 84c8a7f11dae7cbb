"""The directory in which the processes of one server count, so that each of them can report the sum.

It must be named in the environment before prometheus-client is imported. What is counted is defined
in `web.instruments`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class NoDirectory(OSError):
    """There is no directory to count in; says what to do."""


@contextmanager
def shared_metrics_directory(processes: int) -> Iterator[str | None]:
    """Let several processes started in the block count in one directory, for its owner only and gone at the end.

    One by itself needs none. Operators who name a directory keep theirs, with what is in it. Yield a warning where
    none can be made: each process counts for itself then, and serves all the same. Raise NoDirectory for one that is
    named and does not exist.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise NoDirectory(f"{VARIABLE} names {named}, which is no directory: make it, or unset it")
        yield None
        return
    os.environ.pop(VARIABLE, None)  # empty, it would name the current directory
    if processes == 1:
        yield None
        return
    try:
        made = tempfile.mkdtemp(prefix=_prefix(os.getpid()))
    except OSError as error:
        yield (
            f"/metrics shows one worker at a time, as no directory for temporary files can be written ({error});"
            " make room, or set TMPDIR, and restart"
        )
        return
    os.environ[VARIABLE] = made
    try:
        yield None
    finally:
        os.environ.pop(VARIABLE, None)
        shutil.rmtree(made, ignore_errors=True)


def drop_gauges(pid: int) -> None:
    """Drop the gauges of a process that has ended; its counters stay."""
    if VARIABLE not in os.environ:
        return
    # Only now: it takes long to import, and most commands need none of it.
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    with suppress(OSError):  # the directory was cleaned up
        mark_process_dead(pid, os.environ[VARIABLE])  # type: ignore[no-untyped-call]


def remove_directory_of(parent: int) -> None:
    """Remove the directory that the parent of this process made, which was killed and cannot."""
    named = Path(os.environ.get(VARIABLE, ""))
    if named.name.startswith(_prefix(parent)):
        shutil.rmtree(named, ignore_errors=True)


def _prefix(pid: int) -> str:
    return f"issuer-{pid}-"
