"""Builds the soak test, runs it for the requested time, and ends every process that it started.

Its parts are defined in the other modules of this package.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from support.postgresql import USER, new_database
from support.replication import Pair
from support.servers import HOST, Installation

from soak import verifiers, watch
from soak.faults import FaultInjector
from soak.findings import Findings
from soak.network import DatabaseLink, LoadBalancer
from soak.nodes import Node, Shifted
from soak.rules import AUDIENCE, QUIET, Pace, Rules

PROGRESS_SECONDS = 1.0
PATIENCE_SECONDS = 600.0
"""The longest extra time until `is_enough`."""
KINDS = (verifiers.Example, verifiers.Listening, verifiers.PyJwt, verifiers.Strict)
OF_EACH_KIND = {verifiers.Example: 1, verifiers.Listening: 1, verifiers.PyJwt: 2, verifiers.Strict: 2}
DEFECT = "Traceback (most recent call last)"


def soak(
    folder: Path,
    database: Pair,
    seconds: float,
    seed: int,
    progress: Callable[[Findings], None] = lambda _: None,
    pace: Pace = QUIET,
    is_enough: Callable[[Findings], bool] = lambda _: True,
) -> Findings:
    """Run the soak test of `seed` on new servers, at least until every fault was injected and `is_enough`."""
    return asyncio.run(_soak(folder, database, seconds, seed, progress, pace, is_enough))


async def _soak(
    folder: Path,
    pair: Pair,
    seconds: float,
    seed: int,
    progress: Callable[[Findings], None],
    pace: Pace,
    is_enough: Callable[[Findings], bool],
) -> Findings:
    rules, database = Rules.random(seed), new_database(pair.url)
    async with AsyncExitStack() as stack:
        ports: dict[str, int] = {}
        front = LoadBalancer(ports)
        url = f"http://{HOST}:{await front.start()}"
        stack.push_async_callback(front.end)
        operator = stack.enter_context(
            _installation(Installation, folder / "operator", rules.settings(url, database))
        )
        nodes = [
            await _node(stack, name, folder, rules.settings(url, database), pair.ports, offset, pace)
            for name, offset in {"a": 0.0, "b": rules.clock_offset}.items()
        ]
        for node in nodes:
            node.start()
            await node.until_healthy()
            ports[node.name] = node.port
        machine = await asyncio.to_thread(lambda: operator.machine)
        added = await asyncio.to_thread(
            operator.command, "users", "add", watch.USER, "--password-stdin", stdin=watch.PASSWORD
        )
        assert added.code == 0, added
        findings = Findings()
        kinds = [kind(url, AUDIENCE, rules) for kind in KINDS for _ in range(OF_EACH_KIND[kind])]
        for verifier in kinds:
            await verifier.open(stack)
        over, ended = asyncio.Event(), asyncio.Event()
        injector = FaultInjector(nodes, pair, rules, findings, seed)
        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(watch.issue(node, machine, rules, findings, ended))
                tasks.create_task(watch.observe(node, findings, ended))
            for verifier in kinds:
                tasks.create_task(verifiers.check(verifier, front, findings, ended))
            tasks.create_task(watch.keep_session(nodes, findings, ended, seed))
            name = urlsplit(database).path.removeprefix("/")
            tasks.create_task(watch.observe_database(pair, name, findings, ended))
            tasks.create_task(watch.Operator(operator, nodes, pair, rules, seed).run(findings, ended))
            tasks.create_task(_report_progress(progress, findings, ended))
            faults = tasks.create_task(injector.run(over))
            await asyncio.wait({faults}, timeout=seconds)
            while not (faults.done() or is_enough(findings) or findings.age > seconds + PATIENCE_SECONDS):
                await asyncio.wait({faults}, timeout=PROGRESS_SECONDS)
            over.set()
            await faults
            ended.set()
        _read_logs(nodes, findings)
    return findings


def _installation(kind: type[Installation], folder: Path, settings: dict[str, str]) -> Installation:
    folder.mkdir(parents=True)
    return kind(folder, **settings)


async def _node(
    stack: AsyncExitStack,
    name: str,
    folder: Path,
    settings: dict[str, str],
    server_ports: tuple[int, int],
    offset: float,
    pace: Pace,
) -> Node:
    """Return a node with its own link to both database servers, and its own clock."""
    database = urlsplit(settings["ISSUER_DATABASE_URL"])
    line = DatabaseLink(*server_ports)
    stack.push_async_callback(line.end)
    hosts = ",".join(f"{HOST}:{port}" for port in await line.start())
    through = database._replace(netloc=f"{USER}@{hosts}").geturl()
    settings = {**settings, "ISSUER_DATABASE_URL": through, "SOAK_CLOCK_OFFSET": f"{offset}"}
    kind = Shifted if offset else Installation
    node = Node(name, stack.enter_context(_installation(kind, folder / name, settings)), line, pace)
    stack.push_async_callback(node.http.aclose)
    return node


async def _report_progress(
    progress: Callable[[Findings], None], findings: Findings, over: asyncio.Event
) -> None:
    while not over.is_set():
        progress(findings)
        await asyncio.sleep(PROGRESS_SECONDS)


def _read_logs(nodes: list[Node], findings: Findings) -> None:
    """Report a traceback in a node's log as a broken promise."""
    for node in nodes:
        for log in node.logs:
            before, defect, after = log.read_text("utf-8", "replace").partition(DEFECT)
            if defect:
                findings.violation(
                    "no log contains a traceback",
                    node=node.name,
                    log=before[-500:] + defect + after[:3000],
                )
