"""Listeners: requests for the JWKS that wait until the published set changes, by `Prefer: wait` (RFC 7240).

How they are answered is left to `jwks`, and when a process reads the key ring again to `operation.background`.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Final

from fastapi import Request
from starlette.types import Receive

LISTENERS_MOST: Final = 3000
"""Of one process: it has 4096 connections, and a listener keeps one that cannot be closed for another client."""
WAIT_MOST_SECONDS: Final = 30
"""Proxies close a connection on which nothing arrives for a minute."""
TICK_SECONDS: Final = 0.25
ANSWERED_AT_ONCE: Final = 32
"""In one step of the event loop: some five milliseconds, so that other requests are answered in between."""
PREFER_MOST: Final = 1024

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WAIT = re.compile(r"\s*wait\s*=\s*([^\s;]*)\s*(?:;.*)?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,9}")


def requested_wait(request: Request) -> int:
    """Return how many seconds `Prefer` asks to wait for, at most WAIT_MOST_SECONDS; 0 for no such preference.

    Of several the first counts (RFC 7240 section 2); a value that is not a number is ignored.
    """
    sent = ", ".join(request.headers.getlist("prefer"))[:PREFER_MOST]
    # A quoted value may contain separators, and is no number then.
    plain = _QUOTED.sub(lambda quoted: quoted[1] if _NUMBER.fullmatch(quoted[1]) else "-", sent)
    for preference in plain.split(","):
        if wait := _WAIT.fullmatch(preference):
            return min(int(wait[1]), WAIT_MOST_SECONDS) if _NUMBER.fullmatch(wait[1]) else 0
    return 0


class Listeners:
    """The listeners of this process; one timer serves them all, and there is none without listeners.

    All of them have the set with the ETag that `served` returned last; it returns None while no set may be served.
    """

    def __init__(self, served: Callable[[], str | None], counted: Callable[[int], object]) -> None:
        self._served = served
        self._counted = counted
        self._most = LISTENERS_MOST
        self._etag: str | None = None
        self._deadlines: dict[asyncio.Future[bool], float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._deadlines)

    def leave_room(self, connections: int) -> None:
        """Take at most three quarters of the connections that the process may have."""
        self._most = min(LISTENERS_MOST, connections * 3 // 4)

    async def wait(self, seconds: float, receive: Receive) -> bool:
        """Wait until another set is served, at most so long, or until the client disconnects.

        Return False, at once or early, if there are too many listeners or the process stops.
        """
        self.look()
        if self._is_stopping or len(self._deadlines) >= self._most:
            return False
        self._loop = loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()
        self._deadlines[answered] = loop.time() + seconds
        self._counted(len(self._deadlines))
        self._continue()
        disconnected = loop.create_task(_disconnected(receive))
        disconnected.add_done_callback(lambda _: self._answer([answered], granted=False))
        try:
            return await answered
        finally:
            disconnected.cancel()
            self._answer([answered], granted=False)  # if the request was cancelled

    def look(self) -> None:
        """Answer all listeners if another set is served than the one that they have."""
        etag = self._served()
        if etag != self._etag:
            self._etag = etag
            self._answer([*self._deadlines], granted=True)

    def stop(self) -> None:
        """Answer all listeners, and others at once from now on; may be called by a signal handler."""
        self._is_stopping = True
        if self._loop is not None and self._deadlines:
            self._loop.call_soon_threadsafe(lambda: self._answer([*self._deadlines], granted=False))

    def _continue(self) -> None:
        if self._deadlines and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.look()
            # Rather early than late: the client, or a proxy, may not wait longer.
            due = asyncio.get_running_loop().time() + TICK_SECONDS
            self._answer([each for each, at in self._deadlines.items() if at <= due], granted=True)
        finally:
            self._continue()

    def _answer(self, listeners: Iterable["asyncio.Future[bool]"], *, granted: bool) -> None:
        listening = [each for each in listeners if self._deadlines.pop(each, None) is not None]
        if listening:
            self._counted(len(self._deadlines))
            self._release(listening, granted=granted)

    def _release(self, listening: list["asyncio.Future[bool]"], *, granted: bool) -> None:
        for each in listening[:ANSWERED_AT_ONCE]:
            if not each.done():
                each.set_result(granted)
        if rest := listening[ANSWERED_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(lambda: self._release(rest, granted=granted))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
