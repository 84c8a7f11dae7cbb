"""What befalls the nodes and their database: each kind once, then each once more, in orders drawn from the seed.

That nothing was broken by it is for `watch` and `verifiers` to see.
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
"""How often there are two faults at once, on different nodes or on a node and the database."""
LONG = 0.6
"""How often a fault lasts until everything has timed out; else it is over before most of that."""
BRIEF_SECONDS = (0.3, 2.0)
LONGEST_SECONDS = 20.0
REST_SECONDS = (0.2, 1.5)


class Fault(StrEnum):
    """All that can happen."""

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
    node.line.join()


async def _silence(node: Node, hold: float) -> None:
    node.line.silence()
    await asyncio.sleep(hold)
    node.line.join()


async def _fail_over(database: Pair, hold: float, findings: Findings) -> None:
    """Nobody can write for `hold` seconds; afterwards there is a replica again, to be promoted the next time."""
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
"""Those that leave a process with an old view of the ring."""


class Misfortune:
    """Deals faults to the nodes and their database until it is told to end."""

    def __init__(
        self, nodes: Sequence[Node], database: Pair, rules: Rules, findings: Findings, seed: int
    ) -> None:
        self._nodes = nodes
        self._database = database
        self._lead = rules.lead
        self._findings = findings
        self._random = Random(seed)  # noqa: S311 - to be drawn again, not to be secret
        self._deck = self._dealt()
        self.dealt_each = False
        """Whether every kind has happened."""

    async def run(self, over: asyncio.Event) -> None:
        """Go on until it is over and every kind has happened; at the end all nodes are healthy."""
        while not (over.is_set() and self.dealt_each):
            first, second = self._random.sample(self._nodes, 2)
            blows = {first: next(self._deck)}
            if self._random.random() < AT_ONCE:
                blows[second] = next(self._deck)
            if Fault.FAILOVER in blows.values():  # which is over for no node before all of it is
                await self._befall(blows, self._nodes)
            else:
                await asyncio.gather(*(self._befall({node: fault}, [node]) for node, fault in blows.items()))
            await asyncio.sleep(self._random.uniform(*REST_SECONDS))

    def _dealt(self) -> Iterator[Fault]:
        while True:
            yield from self._random.sample(list(Fault), len(Fault))

    async def _befall(self, blows: Mapping[Node, Fault], struck: Sequence[Node]) -> None:
        """Let happen what is to happen at once, and wait until all the nodes that it struck are healthy."""
        for node in struck:
            node.healthy_since = None
        await asyncio.gather(*(self._perform(node, fault) for node, fault in blows.items()))
        await asyncio.gather(*(self._heal(node) for node in struck))
        for fault in blows.values():
            self._findings.count(fault)
        self.dealt_each = all(self._findings.counts[each] for each in Fault)

    async def _perform(self, node: Node, fault: Fault) -> None:
        long = fault in LASTING and self._random.random() < LONG
        longest = LONGEST_SECONDS if self.dealt_each else self._lead + 3.0  # soon each has happened
        hold = self._random.uniform(*((self._lead, longest) if long else BRIEF_SECONDS))
        victim = "all" if fault is Fault.FAILOVER else node.name
        self._findings.event(f"{victim}: {fault} for {hold:.1f} s")
        if fault is Fault.FAILOVER:
            await _fail_over(self._database, hold, self._findings)
        else:
            await PERFORM[fault](node, hold)
        self._findings.event(f"{victim}: {fault} is over")

    async def _heal(self, node: Node) -> None:
        await node.heal()
        self._findings.event(f"{node.name}: healthy")
