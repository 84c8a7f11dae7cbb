"""Real servers whose background tasks end, hang, or are blocked with their event loop.

The rules are tested in `test_supervision`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx2
import pytest
from support.prometheus import Samples
from support.servers import PATIENCE_SECONDS, Installation, eventually, free_port, is_running

BROKEN = """
import asyncio, os, pathlib, threading, time
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
import issuer.keyring.node
import issuer.web.operation.background as background, issuer.web.operation.supervision as supervision
FOLDER = pathlib.Path({folder!r})
supervision.Limits.of = classmethod(lambda cls, policy: cls(2.0, 5.0, 9.0))
supervision.EVENT_LOOP_SECONDS = 4.0
supervision.FINISH_SECONDS = 2.0
refresh, ping = issuer.keyring.node.Node.refresh, Database.ping
prune, watch = background._prune, background.record_process_state
def has(what):
    return (FOLDER / f"{{what}}-{{os.getpid()}}").exists()
def hang_or_refresh(self):
    if has("hang"):
        threading.Event().wait()
    if has("defect"):
        raise TypeError("a defect")
    return refresh(self)
def stall_or_watch(*arguments):
    if has("stall"):
        time.sleep(3600)
    return watch(*arguments)
async def end_or_prune(issuer, beat):
    if has("end"):
        raise RuntimeError("it ends always")
    pruning = asyncio.create_task(prune(issuer, beat))
    while not (has("once") or has("end")):
        await asyncio.sleep(0.05)
    pruning.cancel()
    if has("once"):
        (FOLDER / f"once-{{os.getpid()}}").unlink()
    raise RuntimeError("it ended")
def ping_or_not(self):
    if has("away"):
        raise DatabaseUnavailable("it does not answer")
    return ping(self)
issuer.keyring.node.Node.refresh = hang_or_refresh
Database.ping = ping_or_not
background.record_process_state = stall_or_watch
background._prune = end_or_prune
background.PRUNE_INTERVAL = background.BATCH_PAUSE
"""
"""What each process runs first: it obeys files that bear its number."""
UNAVAILABLE = httpx2.codes.SERVICE_UNAVAILABLE


@pytest.fixture
def breakable(initialized: Installation) -> Installation:
    initialized.prelude = BROKEN.format(folder=str(initialized.folder))
    initialized.settings |= {
        "ISSUER_NODE_TIMEOUT": "20s",
        "ISSUER_PUBLISH_LEAD": "60s",
    }
    initialized.settings["ISSUER_OUTAGE_LIMIT"] = "20s"
    assert initialized.machine
    return initialized


def break_it(installation: Installation, what: str, pid: int) -> None:
    (installation.folder / f"{what}-{pid}").touch()


def answers(url: str, path: str, status: int) -> Callable[[], bool]:
    def ask() -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{url}{path}", trust_env=False, timeout=PATIENCE_SECONDS).status_code == status
        return False

    return ask


def test_a_task_that_ends_is_started_again_and_counted(breakable: Installation) -> None:
    server = breakable.serve().until_ready()
    (pid,) = server.worker_pids
    break_it(breakable, "once", pid)

    def restarts() -> float:
        answer = breakable.http.get(f"{breakable.url}/metrics")
        return Samples(answer.text).total("issuer_background_task_restarts_total", task="prune")

    eventually(lambda: restarts() == 1, "the restart is counted")
    assert "it ended" in server.output
    eventually(answers(breakable.url, "/readyz", httpx2.codes.OK), "it is ready")
    server.stop()
    assert server.process.returncode == 0


def test_a_single_process_whose_task_keeps_failing_logs_that_and_ends_with_an_error(
    breakable: Installation,
) -> None:
    servers = {harm: breakable.serve(port=free_port()) for harm in ("hang", "defect", "end")}

    def require_ends(harm: str) -> None:
        url, (pid,) = servers[harm].url, servers[harm].worker_pids
        break_it(breakable, harm, pid)
        eventually(answers(url, "/readyz", UNAVAILABLE), f"not ready: {harm}")
        assert answers(url, "/healthz", httpx2.codes.OK)(), harm
        assert answers(url, "/.well-known/jwks.json", httpx2.codes.OK)(), harm
        eventually(answers(url, "/healthz", UNAVAILABLE), f"unhealthy: {harm}")
        assert servers[harm].process.wait(PATIENCE_SECONDS) == 1, harm
        assert "process ends to be restarted" in servers[harm].output, harm

    for server in servers.values():
        server.until_ready()
    with ThreadPoolExecutor() as at_once:
        list(at_once.map(require_ends, servers))


def has_ended(pid: int) -> bool:
    return not is_running(pid)


def test_workers_whose_tasks_keep_failing_are_replaced_while_another_serves(breakable: Installation) -> None:
    harms = ("hang", "defect", "end", "stall")
    server = breakable.serve(workers=len(harms) + 1).until_ready()
    other, *broken = server.worker_pids
    for harm, pid in zip(harms, broken, strict=True):
        break_it(breakable, harm, pid)
    for harm, pid in zip(harms, broken, strict=True):
        eventually(partial(has_ended, pid), f"the worker has ended: {harm}")
    assert is_running(other)
    eventually(lambda: len(server.worker_pids) == 2 * len(harms) + 1, "they are replaced")
    eventually(answers(breakable.url, "/readyz", httpx2.codes.OK), "it is ready")
    assert breakable.token()
    server.stop()
    assert server.process.returncode == 0


def test_a_process_that_hangs_while_the_database_is_unreachable_keeps_publishing(
    breakable: Installation,
) -> None:
    breakable.settings |= {"ISSUER_NODE_TIMEOUT": "14s", "ISSUER_OUTAGE_LIMIT": "14s"}
    server = breakable.serve().until_ready()
    (pid,) = server.worker_pids
    break_it(breakable, "away", pid)
    break_it(breakable, "hang", pid)
    eventually(answers(breakable.url, "/readyz", UNAVAILABLE), "it is not ready")
    # It would end after 9 s; O and M are 15 s, in which nothing could take its place.
    eventually(answers(breakable.url, "/.well-known/jwks.json", UNAVAILABLE), "O is over")
    assert server.process.wait(PATIENCE_SECONDS) == 1
