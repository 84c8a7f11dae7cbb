"""Verifies tokens in threads, for Flask, Django, Celery and other code without an event loop.

The rules are those of `verifier`. A daemon thread runs the event loop of each `cache`; a token is verified in the
thread of its caller, and waits for that loop only if its kid is unknown or a refresh is late.
"""

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Self

from .cache import JwksCache
from .claims import AccessToken
from .errors import KeysUnavailable
from .verifier import TokenVerifier, Waiting

LOOP_SECONDS = 10  # the most that a caller waits for the loop beyond the wait for a fetch
STOP_SECONDS = 5  # the most that `close` waits: a name server that does not answer would delay the loop's end


class SyncTokenVerifier:
    """A TokenVerifier to call from any thread; `with` or the first token starts it, `close` or the exit stops it.

    It may be created before a fork: each process starts its own thread, with the keys that the parent had. `on_event`
    of a cache is called in several threads. The start raises RuntimeError for a cache that another one uses.
    """

    def __init__(
        self,
        caches: JwksCache | Mapping[str, JwksCache],
        audience: str,
        *,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - a default that callers and tests replace
    ) -> None:
        self.verifier = TokenVerifier(caches, audience, wall=wall)
        self._lock = threading.Lock()
        self._thread: _LoopThread | None = None
        forked = weakref.WeakMethod(self._forget_parent)
        os.register_at_fork(after_in_child=lambda: _call(forked()))

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self, token: str) -> AccessToken:
        """Return the claims of a valid token, as `TokenVerifier.verify` does, and raise the same exceptions."""
        thread = self._thread or self._start()
        verified = self.verifier.verify_now(token)
        return thread.verify_after_fetch(token, verified) if isinstance(verified, Waiting) else verified

    def close(self) -> None:
        """Stop the thread at once, even during a fetch; callers that wait get KeysUnavailable."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                atexit.unregister(self.close)
                thread.stop()
                for cache in self.verifier.caches.values():
                    cache.owner = None

    def _start(self) -> "_LoopThread":
        with self._lock:
            if self._thread is None:
                for cache in self.verifier.caches.values():
                    if cache.owner not in {None, self}:  # its tasks belong to the event loop of the other
                        raise RuntimeError(
                            f"the cache of {cache.issuer} is used by another SyncTokenVerifier"
                        )
                self._thread = _LoopThread(self.verifier)
                for cache in self.verifier.caches.values():
                    cache.owner = self
                atexit.register(self.close)
            return self._thread

    def _forget_parent(self) -> None:
        """Forget what only the parent process has: its thread, and a lock that another thread may have held."""
        self._lock = threading.Lock()
        if self._thread is not None:
            self._thread = None
            atexit.unregister(self.close)


def _call(act: Callable[[], None] | None) -> None:
    if act is not None:
        act()


class _LoopThread:
    """A daemon thread with an event loop, in which the caches of a verifier are refreshed."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._lock, self._is_stopping = threading.Lock(), False
        for cache in verifier.caches.values():
            cache.forget_loop()
        try:
            self._thread = threading.Thread(target=self._run, name="jwks_verifier", daemon=True)
            self._thread.start()
        except RuntimeError:  # no more threads
            self._loop.close()
            raise

    def verify_after_fetch(self, token: str, waiting: Waiting) -> AccessToken:
        """Verify a token in the loop's thread, within the limits of its cache on how many wait and for how long."""
        with self._lock:
            if self._is_stopping:  # what is scheduled after `_stopping` might never run
                raise KeysUnavailable(1)
            verifying = self._verifier.verify_after_fetch(token, waiting)
            future = asyncio.run_coroutine_threadsafe(verifying, self._loop)
        try:
            # The loop itself waits for at most `wait`; the rest is for a loop that does not run.
            return future.result(waiting.cache.timings.wait + LOOP_SECONDS)
        except (CancelledError, TimeoutError) as error:
            future.cancel()
            raise KeysUnavailable(1) from error

    def stop(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            self._is_stopping = True
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._refresh())

    async def _refresh(self) -> None:
        async with self._verifier:
            await self._stopping.wait()
