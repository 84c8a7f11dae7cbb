"""The connections of a process: their number and phases, and which one is evicted for a new one.

Deadlines are checked once a second for all connections, so that no request needs a timer.
"""

import asyncio
import logging
import math
from collections import Counter, OrderedDict
from contextlib import suppress
from enum import Enum, StrEnum
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import uvicorn

from .limits import Limits

logger = logging.getLogger("uvicorn.error")

SWEEP_SECONDS = 1.0
REPORT_SECONDS = 60.0
SPARED_SECONDS = 0.25
MOST_LEAVING = 8
"""How many evicted connections may still deliver what was written, and so use a descriptor."""
BURST_CONNECTIONS = 16
"""How many connections may exceed the limit for a moment, within the reserved file descriptors."""


class Phase(Enum):
    """What a connection waits for."""

    HANDSHAKE = "the client, in a TLS handshake"
    HEAD = "the head of a request"
    BODY = "the body of a request"
    ANSWERING = "the application"
    WRITING = "the client, which does not read the response"
    IDLE = "another request"
    CLOSING = "the client, to close"

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is slower


_ON_CLIENT = frozenset({Phase.HANDSHAKE, Phase.HEAD, Phase.BODY, Phase.WRITING, Phase.CLOSING})


class Cause(StrEnum):
    """Why a request was refused or a connection closed before the application was called."""

    MALFORMED = "malformed"
    HEAD_TOO_LARGE = "head_too_large"
    TARGET_TOO_LONG = "target_too_long"
    CHUNKS_TOO_COSTLY = "chunks_too_costly"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TIMEOUT = "body_timeout"
    WRITE_TIMEOUT = "write_timeout"
    TLS_TIMEOUT = "tls_timeout"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_OF_ADDRESS = "too_many_of_address"


class Member(Protocol):
    """A connection, as the ledger sees it."""

    phase: Phase
    address: str | None
    since: float
    """When the current phase began, by the clock of the event loop."""

    def expire(self, now: float) -> None:
        """Close the connection if the client has exceeded a time limit."""

    def evict(self) -> None:
        """Close the connection; what was written may still be delivered."""

    def abort(self) -> None:
        """Close the connection immediately."""


class Ledger:
    """Counts the connections of one server."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop, app: Any) -> None:
        self.limits = limits
        self._state = _state(app)
        self._observe = getattr(self._state, "connection_refused", None)
        self._tell("connections_limited", limits.most_connections)
        self._loop = loop
        self._members: set[Member] = set()
        self._by_address: Counter[str] = Counter()
        self._on_client: OrderedDict[Member, None] = OrderedDict()  # the longest waiting first
        self._idle: OrderedDict[Member, None] = OrderedDict()
        self._leaving: OrderedDict[Member, None] = OrderedDict()  # not counted, but they use descriptors
        self._queues = dict.fromkeys(_ON_CLIENT, self._on_client) | {Phase.IDLE: self._idle}
        self._sweeping = False
        self._unreported: Counter[Cause] = Counter()
        self._reported_at: dict[Cause, float] = {}

    def admit(self, member: Member) -> Cause | None:
        """Add a connection, or return why there is no room for it.

        Connections that wait for their client are evicted for a new one: first those without a complete request, the
        longest waiting first, then idle ones. A connection in its first moments is spared if possible, as its request
        may have arrived but was not read yet.
        """
        self._sweep_from_now_on()
        address, limits = member.address, self.limits
        if address is not None:
            excess = self._trim_address(address, 1)
            if excess > limits.most_per_address and not self._evict(math.inf, address):
                return Cause.TOO_MANY_OF_ADDRESS
        if self._trim(1) > BURST_CONNECTIONS and not self._evict(math.inf):
            return Cause.TOO_MANY_CONNECTIONS
        self._members.add(member)
        if address is not None:
            self._by_address[address] += 1
        if member.phase in self._queues:
            self._queues[member.phase][member] = None
        return None

    def is_crowded(self) -> bool:
        """Whether there is no room for a connection, and none that may be evicted for it now."""
        if len(self._members) < self.limits.most_connections:
            return False
        before = self._loop.time() - SPARED_SECONDS
        return not any(member.since < before for queue in (self._on_client, self._idle) for member in queue)

    def move(self, member: Member, phase: Phase) -> None:
        """Set the phase of a connection."""
        queues, before, member.phase = self._queues, member.phase, phase
        if before in queues:
            queues[before].pop(member, None)
        if phase in queues and member in self._members:
            queues[phase][member] = None

    def leave(self, member: Member) -> None:
        """Move an evicted connection to those that are being closed, whose number is limited, too."""
        self.remove(member)
        self._leaving[member] = None
        for oldest in [*self._leaving][:-MOST_LEAVING]:
            oldest.abort()

    def free_descriptors(self) -> None:
        """Close connections because the process has no free file descriptor."""
        leaving = [*self._leaving]
        for member in leaving:
            member.abort()
        if not leaving and self._evict(math.inf):
            self.report(Cause.TOO_MANY_CONNECTIONS)

    def remove(self, member: Member) -> None:
        """Remove a connection, if it is known."""
        self._leaving.pop(member, None)
        if member not in self._members:
            return
        self._members.discard(member)
        if member.phase in self._queues:
            self._queues[member.phase].pop(member, None)
        if member.address is not None:
            self._by_address[member.address] -= 1
            if not self._by_address[member.address]:
                del self._by_address[member.address]

    def stop(self) -> None:
        """Tell the application that the server stops, and waits for the requests in progress."""
        self._tell("server_stopping")

    def _tell(self, hook: str, *values: object) -> None:
        told = getattr(self._state, hook, None)
        if told is not None:
            told(*values)

    def report(self, reason: Cause) -> None:
        """Count a refusal for metrics and log; their failures are suppressed."""
        if self._observe is not None:
            with suppress(Exception):
                self._observe(reason.value)
        self._unreported[reason] += 1
        self._log(reason)

    def _trim(self, coming: int = 0) -> int:
        """Evict connections beyond the limit, including `coming` ones; return how many are still too many."""
        excess = len(self._members) + coming - self.limits.most_connections
        return self._close_oldest(excess, Cause.TOO_MANY_CONNECTIONS)

    def _trim_address(self, address: str, coming: int = 0) -> int:
        """Do the same for the connections of one address."""
        excess = self._by_address[address] + coming - self.limits.most_per_address
        return self._close_oldest(excess, Cause.TOO_MANY_OF_ADDRESS, address)

    def _close_oldest(self, excess: int, reason: Cause, address: str | None = None) -> int:
        before = self._loop.time() - SPARED_SECONDS
        while excess > 0 and self._evict(before, address):
            self.report(reason)
            excess -= 1
        return excess

    def _evict(self, before: float, address: str | None = None) -> bool:
        """Evict the connection that has waited longest, if it has waited since `before`."""
        for queue in (self._on_client, self._idle):
            for member in queue:
                if member.since < before and address in {None, member.address}:
                    self.leave(member)
                    member.evict()
                    return True
        return False

    def _sweep_from_now_on(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for member in [*self._members]:
            try:
                member.expire(now)
            except Exception as error:  # noqa: BLE001 - an error in one connection must not keep others open
                self._give_up(member, error)
        self._trim()
        for address in [*self._by_address]:
            self._trim_address(address)
        for reason in list(self._unreported):
            self._log(reason)
        self._sweeping = bool(self._members or self._unreported)
        if self._sweeping:
            self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _give_up(self, member: Member, error: Exception) -> None:
        """Abort a connection whose deadline check failed, as it would fail once a second."""
        with suppress(Exception):
            logger.error("connection aborted after an internal error", exc_info=error)
        self.remove(member)
        with suppress(Exception):
            member.abort()

    def _log(self, reason: Cause) -> None:
        """Log a reason when it first occurs, and then at most once a minute with its count."""
        now = self._loop.time()
        if now - self._reported_at.get(reason, -REPORT_SECONDS) < REPORT_SECONDS:
            return
        self._reported_at[reason] = now
        count = self._unreported.pop(reason)
        with suppress(Exception):
            logger.warning("refused requests or closed connections: reason %s, count %d", reason.value, count)


_ledgers: "WeakKeyDictionary[object, Ledger]" = WeakKeyDictionary()


def ledger_of(server_state: object, config: uvicorn.Config) -> Ledger:
    """Return the ledger of a server, made for its first connection."""
    ledger = _ledgers.get(server_state)
    if ledger is None:
        limits = getattr(config, "limits", None) or Limits(keep_alive_seconds=config.timeout_keep_alive)
        ledger = _ledgers[server_state] = Ledger(limits, asyncio.get_running_loop(), config.loaded_app)
    return ledger


def _state(app: Any) -> Any:
    """Return the application's `state`, whose hooks are called if it has them, from inside uvicorn's middleware."""
    while app is not None and not hasattr(app, "state"):
        app = getattr(app, "app", None)
    return getattr(app, "state", None)
