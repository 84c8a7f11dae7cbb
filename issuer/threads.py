"""Starts the threads of an executor before its first job.

An executor that cannot start a thread raises but keeps the job, and runs it after its caller has got an error.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


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
