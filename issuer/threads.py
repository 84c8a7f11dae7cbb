"""Threads: how many cores there are for them, and their start before the first job.

An executor that cannot start a thread raises but keeps the job, and runs it after its caller has got an error.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path


def cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use; a container's `limit` of time counts as whole ones (cgroups v2)."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):  # no such limit, or "max"
        microseconds, period = limit.read_text().split()
        return max(1, min(allowed, int(microseconds) // int(period)))
    return allowed


def start_threads(executor: ThreadPoolExecutor, count: int) -> None:
    """Start all `count` threads of `executor`, which has no jobs; raise RuntimeError if one cannot be started."""
    barrier = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            executor.submit(barrier.wait)
        barrier.wait()
    except RuntimeError:
        barrier.abort()
        raise
