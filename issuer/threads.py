"""Starts the threads of an executor before the first job comes.

An executor that cannot start a thread raises, but keeps the job, and does it later, after its caller was refused.
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
