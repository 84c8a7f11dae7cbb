"""The front for threads: the same rules and limits as the asynchronous one, in any thread and after a fork."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from support.attacks.claims import ACCEPTED, CLAIMS
from support.attacks.forms import FORM
from support.attacks.headers import HEADER, SIGNATURE, UNKNOWN_KID
from support.servers import PATIENCE_SECONDS, eventually
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import InvalidToken, JwksCache, KeysUnavailable, SyncTokenVerifier, Timings, sync
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair

THREADS = 16
FAMILIES = {"form": FORM, "header": HEADER, "signature": SIGNATURE, "claims": CLAIMS, "kid": UNKNOWN_KID}


@pytest.fixture
def verifier(cache: JwksCache, clock: Clock) -> Iterator[SyncTokenVerifier]:
    verifier = SyncTokenVerifier(cache, AUDIENCE, wall=clock.wall)
    yield verifier
    verifier.close()
    assert not running()


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jwks_verifier"]


def outcome(verifier: SyncTokenVerifier, token: str) -> str:
    try:
        return verifier.verify(token).subject
    except (InvalidToken, KeysUnavailable) as error:
        return type(error).__name__


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_are_refused_for_the_same_reason(
    family: str, verifier: SyncTokenVerifier, forge: Forge, issuer: InProcessIssuer
) -> None:
    verifier.verify(forge.token())
    for row in FAMILIES[family]:
        with pytest.raises(InvalidToken) as refusal:
            verifier.verify(row.make(forge))
        assert refusal.value.reason is row.reason, row.name
    for row in ACCEPTED:
        assert verifier.verify(row.make(forge)).subject == "u1"
    assert issuer.requests.count(JWKS_PATH) == 1


def test_first_requests_of_many_threads_cost_one_fetch_and_one_thread(
    verifier: SyncTokenVerifier, forge: Forge, issuer: InProcessIssuer, clock: Clock
) -> None:
    token, together = forge.token(), threading.Barrier(THREADS)

    def verify(number: int) -> str:
        together.wait(PATIENCE_SECONDS)
        return outcome(verifier, token if number % 2 else forge.token({"kid": f"made-up-{number}"}))

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3):
            assert set(pool.map(verify, range(THREADS))) == {"u1", "InvalidToken"}
            assert len(running()) == 1
    assert issuer.requests.count(JWKS_PATH) == 1


def test_an_unknown_key_is_fetched_once_per_cooldown(
    verifier: SyncTokenVerifier, forge: Forge, issuer: InProcessIssuer, clock: Clock
) -> None:
    verifier.verify(forge.token())
    issuer.keys.append(forge.stranger)
    assert outcome(verifier, forge.token()) == "InvalidToken"
    clock.rest(10)
    assert outcome(verifier, forge.token()) == "u1"
    assert issuer.requests.count(JWKS_PATH) == 2


def test_without_keys_there_is_no_verdict_and_cached_keys_outlast_an_outage(
    verifier: SyncTokenVerifier, forge: Forge, issuer: InProcessIssuer, clock: Clock
) -> None:
    issuer.down = True
    assert outcome(verifier, forge.token()) == "KeysUnavailable"
    issuer.down = False
    clock.rest(10)
    assert outcome(verifier, forge.token()) == "u1"
    issuer.down = True
    clock.rest(1000)
    assert outcome(verifier, forge.token()) == "u1"


def test_a_close_during_a_fetch_that_never_ends_is_quick_and_ends_every_wait(
    forge: Forge, clock: Clock
) -> None:
    asked = threading.Event()

    async def never(_: httpx2.Request) -> httpx2.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    never_ends = Timings(wait=3600, fetch_deadline=3600, connect_timeout=3600)
    cache = JwksCache(forge.issuer.url, transport=httpx2.MockTransport(never), timings=never_ends)
    with ThreadPoolExecutor(THREADS) as pool:
        with SyncTokenVerifier(cache, AUDIENCE, wall=clock.wall) as verifier:
            waiting = [pool.submit(outcome, verifier, forge.token()) for _ in range(THREADS)]
            assert asked.wait(PATIENCE_SECONDS)
            eventually(lambda: cache._waiters == THREADS, "every thread waits")
        assert {each.result(PATIENCE_SECONDS) for each in waiting} == {"KeysUnavailable"}
    assert not running()


def test_no_caller_waits_for_a_loop_that_does_not_run(
    issuer: InProcessIssuer, forge: Forge, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "LOOP_SECONDS", 0.01)
    cache = JwksCache(issuer.url, transport=issuer.transport, timings=Timings(wait=0.01), wall=clock.wall)
    resumed = threading.Event()
    issuer.down = True
    with SyncTokenVerifier(cache, AUDIENCE, wall=clock.wall) as verifier:
        assert verifier._thread
        verifier._thread._loop.call_soon_threadsafe(resumed.wait, PATIENCE_SECONDS)
        try:
            with pytest.raises(KeysUnavailable):
                verifier.verify(forge.token())
            assert not resumed.is_set()
        finally:
            resumed.set()


def test_it_starts_again_after_a_close(
    verifier: SyncTokenVerifier, forge: Forge, issuer: InProcessIssuer
) -> None:
    for _ in range(2):
        with verifier:
            assert outcome(verifier, forge.token()) == "u1"
        assert not running()


def test_two_verifiers_with_threads_of_their_own_do_not_share_a_cache(
    verifier: SyncTokenVerifier, cache: JwksCache, forge: Forge, clock: Clock
) -> None:
    other = SyncTokenVerifier(cache, AUDIENCE, wall=clock.wall)
    with verifier, pytest.raises(RuntimeError, match="used by another SyncTokenVerifier"):
        other.verify(forge.token())
    with other:
        assert outcome(other, forge.token()) == "u1"


def in_a_child(act: Callable[[], bool]) -> bool:
    """Return what the function returns in a forked process."""
    child = os.fork()
    if not child:
        try:
            signal.alarm(int(PATIENCE_SECONDS))  # ends a child that waits for ever
            os._exit(0 if act() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.processes
@pytest.mark.parametrize("started", [False, True])
def test_a_forked_process_verifies_and_fetches_by_itself(
    verifier: SyncTokenVerifier,
    forge: Forge,
    issuer: InProcessIssuer,
    clock: Clock,
    pairs: list[KeyPair],
    started: bool,
) -> None:
    if started:
        verifier.verify(forge.token())

    def child() -> bool:
        if outcome(verifier, forge.token()) != "u1":
            return False
        issuer.keys.append(pairs[1])
        clock.rest(10)
        verified = outcome(verifier, forge.token()) == "u1" and len(running()) == 1
        verifier.close()
        return verified and not running()

    with verifier._lock if started else threading.Lock():  # held by another thread than the child has
        assert in_a_child(child)
    assert outcome(verifier, forge.token()) == "u1"


EXIT = """
import threading
from jwks_verifier import JwksCache, SyncTokenVerifier
from jwks_verifier.testing import InProcessIssuer

issuer = InProcessIssuer()
verifier = SyncTokenVerifier(JwksCache(issuer.url, transport=issuer.transport), "https://api.test")
print(verifier.verify(issuer.make_token(aud="https://api.test")).subject, threading.active_count())
"""


@pytest.mark.processes
def test_a_process_that_ends_without_a_close_warns_of_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", EXIT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "u1 2\n", "")
