"""Faults of the nodes and their database: each kind once, then again, in random order by the seed.

The consequences are checked by `watch` and `verifiers`.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from random import Random

from support.replication import Pair

from soak.findings import Findings
from soak.nodes import Node
from soak.rules import Rules

AT_ONCE = 0.25
"""The share of two simultaneous faults, on different nodes or on a node and the database."""
LONG = 0.6
"""The share of faults that last until everything has timed out; the others end earlier."""
BRIEF_SECONDS = (0.3, 2.0)
LONGEST_SECONDS = 20.0
REST_SECONDS = (0.2, 1.5)


class Fault(StrEnum):
    """The kinds of faults."""

    KILL = "node killed"
    KILL_WORKER = "worker killed"
    STOP = "node stopped"
    STOP_WORKER = "worker stopped"
    CUT = "cut off, connections reset"
    SILENCE = "cut off, silence"
    FAILOVER = "primary killed, replica promoted"


async def _kill(node: Node, hold: float) -> None:
    node.server.end()
    await asyncio.sleep(hold)
    node.start()


async def _kill_worker(node: Node, _hold: float) -> None:
    os.kill(node.workers()[0], signal.SIGKILL)


async def _stop(node: Node, hold: float) -> None:
    node.signal(signal.SIGSTOP)
    await asyncio.sleep(hold)
    node.signal(signal.SIGCONT)


async def _stop_worker(node: Node, hold: float) -> None:
    pid = node.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(hold)
    with suppress(ProcessLookupError):  # its parent replaces one that does not answer for five seconds
        os.kill(pid, signal.SIGCONT)


async def _cut(node: Node, hold: float) -> None:
    node.line.close()
    await asyncio.sleep(hold)
    node.line.restore()


async def _silence(node: Node, hold: float) -> None:
    node.line.silence()
    await asyncio.sleep(hold)
    node.line.restore()


async def _fail_over(database: Pair, hold: float, findings: Findings) -> None:
    """Leave the database without a primary for `hold` seconds, then promote the replica, and create another."""
    await asyncio.to_thread(database.lose_primary)
    await asyncio.sleep(hold)
    await asyncio.to_thread(database.promote)
    findings.failed_over()
    await asyncio.to_thread(database.replicate)


PERFORM: dict[Fault, Callable[[Node, float], Awaitable[None]]] = {
    Fault.KILL: _kill,
    Fault.KILL_WORKER: _kill_worker,
    Fault.STOP: _stop,
    Fault.STOP_WORKER: _stop_worker,
    Fault.CUT: _cut,
    Fault.SILENCE: _silence,
}


LASTING = frozenset({Fault.STOP, Fault.STOP_WORKER, Fault.CUT, Fault.SILENCE, Fault.FAILOVER})
"""Faults after which a process has an old view of the key ring."""


class FaultInjector:
    """Injects faults into the nodes and their database until `over` is set."""

    def __init__(
        self, nodes: Sequence[Node], database: Pair, rules: Rules, findings: Findings, seed: int
    ) -> None:
        self._nodes = nodes
        self._database = database
        self._lead = rules.lead
        self._findings = findings
        self._random = Random(seed)  # noqa: S311 - reproducible, not secret
        self._sequence = self._random_order()
        self.all_injected = False
        """Whether every kind has been injected."""

    async def run(self, over: asyncio.Event) -> None:
        """Inject faults until `over` is set and every kind was injected; at the end all nodes are healthy."""
        while not (over.is_set() and self.all_injected):
            first, second = self._random.sample(self._nodes, 2)
            faults = {first: next(self._sequence)}
            if self._random.random() < AT_ONCE:
                faults[second] = next(self._sequence)
            if Fault.FAILOVER in faults.values():  # it affects all nodes until it is over
                await self._inject(faults, self._nodes)
            else:
                await asyncio.gather(*(self._inject({node: fault}, [node]) for node, fault in faults.items()))
            await asyncio.sleep(self._random.uniform(*REST_SECONDS))

    def _random_order(self) -> Iterator[Fault]:
        while True:
            yield from self._random.sample(list(Fault), len(Fault))

    async def _inject(self, faults: Mapping[Node, Fault], affected: Sequence[Node]) -> None:
        """Inject simultaneous faults, and wait until all affected nodes are healthy."""
        for node in affected:
            node.healthy_since = None
        await asyncio.gather(*(self._perform(node, fault) for node, fault in faults.items()))
        await asyncio.gather(*(self._heal(node) for node in affected))
        for fault in faults.values():
            self._findings.count(fault)
        self.all_injected = all(self._findings.counts[each] for each in Fault)

    async def _perform(self, node: Node, fault: Fault) -> None:
        long = fault in LASTING and self._random.random() < LONG
        longest = (
            LONGEST_SECONDS if self.all_injected else self._lead + 3.0
        )  # short, until every kind was injected
        hold = self._random.uniform(*((self._lead, longest) if long else BRIEF_SECONDS))
        target = "all" if fault is Fault.FAILOVER else node.name
        self._findings.event(f"{target}: {fault} for {hold:.1f} s")
        if fault is Fault.FAILOVER:
            await _fail_over(self._database, hold, self._findings)
        else:
            await PERFORM[fault](node, hold)
        self._findings.event(f"{target}: {fault} is over")

    async def _heal(self, node: Node) -> None:
        await node.until_healthy()
        self._findings.event(f"{node.name}: healthy")
