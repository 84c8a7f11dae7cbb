"""Hashing passwords: the only file that knows passlib, and the bounded pool on which hashing runs.

Which passwords are acceptable is decided in `accounts`.
"""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from passlib.context import CryptContext

from issuer.oauth import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

COMMON = frozenset((Path(__file__).parent / "common_passwords.txt").read_text("utf-8").split())
"""Passwords of twelve characters or more that lead every list of leaked ones."""

QUEUE_LIMIT = 64
"""Log-ins waiting for a hashing thread, beyond which the issuer asks clients to come back."""
BACK_WITHIN_SECONDS = 6
"""Each is told another number of seconds: those refused at once shall not come back at once."""
GIVE_WAY = 10
"""How much nicer than the process its hashing threads are: who fetches keys goes before them."""
NICEST = 19


class WrongPassword(Exception):
    """The password does not match, or there is no such account."""


class QueueFull(Unavailable):
    """Too many wait for a hashing thread already."""


class Passwords:
    """Hashes with argon2id (19 MiB, 2 passes, 1 lane); verifies older schemes, so that users can move in."""

    def __init__(self, memory_kib: int = 19456, passes: int = 2) -> None:
        self._context = CryptContext(
            schemes=["argon2", "scrypt", "bcrypt", "bcrypt_sha256", "pbkdf2_sha256", "pbkdf2_sha512"],
            deprecated="auto",
            argon2__type="ID",
            argon2__memory_cost=memory_kib,
            argon2__time_cost=passes,
            argon2__parallelism=1,
        )
        self._dummy = self._unanswerable()

    def _unanswerable(self) -> str:
        """Return a hash that no password has, and that takes as long to verify as any: salt and digest are random."""
        scheme = self._context.handler("argon2")
        salt, digest = secrets.token_bytes(16), secrets.token_bytes(32)
        return str(scheme(salt=salt, checksum=digest, use_defaults=True).to_string())

    def hash(self, password: str) -> str:
        """Return the hash to keep of `password`."""
        return str(self._context.hash(password))

    def verify(self, password: str, password_hash: str | None) -> str | None:
        """Return a better hash to keep in place of `password_hash`, or None if it is up to date.

        Raise WrongPassword otherwise; for None, an unknown user, after the same work.
        """
        try:
            matches, better = self._context.verify_and_update(password, password_hash or self._dummy)
        except ValueError:  # a hash of no known scheme, or a password its scheme cannot take
            self._context.verify(password, self._dummy)
            matches, better = False, None
        if not matches or password_hash is None:
            raise WrongPassword
        return None if better is None else str(better)


class HashingPool:
    """Threads for requests that hash, as many as there are cores; beyond a bounded queue it says 503."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(self._threads, "hashing", initializer=_give_way)
        self._waiting = 0
        self.changed: Callable[[int], None] = lambda _jobs: None
        """Is told how many jobs hash or wait, whenever that changes."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function` returns, off the event loop; raise Unavailable when too many wait."""
        if self._waiting >= QUEUE_LIMIT + self._threads:
            later = timedelta(seconds=1 + secrets.randbelow(BACK_WITHIN_SECONDS))
            raise QueueFull("too many log-ins at once; try again", retry_after=later)
        self._count(1)
        try:
            future = self._executor.submit(copy_context().run, partial(function, *args, **kwargs))
            return await asyncio.wrap_future(future)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._waiting += more
        self.changed(self._waiting)

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _give_way() -> None:
    """Lower the priority of this thread: while it hashes, the event loop must get a core at once."""
    if sys.platform != "linux":  # elsewhere only whole processes have one
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # it hashes all the same
        os.setpriority(
            os.PRIO_PROCESS, thread, min(NICEST, os.getpriority(os.PRIO_PROCESS, thread) + GIVE_WAY)
        )
