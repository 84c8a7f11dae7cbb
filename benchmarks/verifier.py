"""The cost of verification, also under attack: `jwks_verifier` compared with raw RSA and PyJWT's PyJWKClient.

All in one run: CPU time in alternating rounds, medians and ratios; stalls of the event loop; fetches, counted by the
server. The server is `tests/support/attacks/hostile_server.py`, or a small one here whose keys can be changed.
"""

import asyncio
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from rich.console import Console
from rich.table import Table
from timing import measured, show

from jwks_verifier import InvalidToken, JwksCache, KeysUnavailable, Timings, TokenVerifier
from jwks_verifier.testing import KeyPair, make_token

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.attacks.hostile_server import HostileServer, Stall

ISSUER, AUDIENCE = "https://issuer.test", "https://api.test"
JUNK = "a" * 200_000
REQUESTS, THREADS = 1000, 40  # FastAPI runs what is not async in 40 threads
LIFE, COOLDOWN, OUTAGE = 0.5, 0.5, 2.0  # seconds
PATIENCE = 3.0  # seconds, for what may never end
BEHAVIOURS = (
    "late",
    "silence at once",
    "drip of a body",
    "endless tiny chunks",
    "gzip bomb",
    "keys of 8192 bits",
)


class Comparison(NamedTuple):
    """A line of the table."""

    what: str
    target: str
    ours: str
    theirs: str


class Issuer(ThreadingHTTPServer):
    """Serves whatever keys it has at the moment, counts, and can be down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *keys: KeyPair) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.keys = list(keys)
        self.down = False
        self.fetches = 0
        self.url = f"http://127.0.0.1:{self.server_port}/jwks.json"

    def token(self, **header: Any) -> str:
        """Sign with the last key."""
        return make_token(self.keys[-1], header=header, iss=ISSUER, aud=AUDIENCE, scope="items:read")


class Answer(BaseHTTPRequestHandler):
    """One answer of it."""

    server: Issuer

    def do_GET(self) -> None:
        """Answer the key set."""
        self.server.fetches += 1
        body = json.dumps({"keys": [key.jwk for key in self.server.keys]}).encode()
        self.send_response(503 if self.server.down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(*keys: KeyPair) -> Iterator[Issuer]:
    """Run an issuer."""
    with Issuer(*keys) as issuer:
        thread = threading.Thread(target=issuer.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield issuer
        finally:
            issuer.shutdown()
            thread.join()


def our_verifier(url: str, **timings: float) -> TokenVerifier:
    """Make one that has to fetch its keys from there."""
    return TokenVerifier(JwksCache(ISSUER, jwks_url=url, timings=Timings(**timings)), AUDIENCE)


def their_verifier(url: str, **settings: float) -> Callable[[str], dict[str, Any]]:
    """Make PyJWT's, as its documentation shows it."""
    client = jwt.PyJWKClient(url, **settings)  # type: ignore[arg-type]

    def verify(token: str) -> dict[str, Any]:
        key = client.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, ["RS256"], audience=AUDIENCE, issuer=ISSUER)

    return verify


def at_once(verifier: TokenVerifier, token: str) -> None:
    """Verify without a loop: with its keys at hand it never waits."""
    try:
        verifier.verify(token).send(None)
    except StopIteration:
        return
    raise AssertionError("a warm verification waited")


Case = Callable[[int], None]
NAMES = ("RS256 verification alone", "jwks-verifier", "PyJWT's PyJWKClient")


def repeated(act: Callable[[], object]) -> Case:
    """Make a case of an act, whatever it raises."""

    def run(calls: int) -> None:
        for _ in range(calls):
            act()

    return run


def refused(verify: Callable[[str], object]) -> Case:
    """Make a case of refusing junk: without a dot, and as the payload of what has two."""

    def run(calls: int) -> None:
        for number in range(calls):
            try:
                verify(JUNK if number % 2 else f"e30.{JUNK}.e30")
            except (InvalidToken, jwt.PyJWTError):
                continue
            raise AssertionError("junk was accepted")

    return run


def good(issuer: Issuer, ours: TokenVerifier, token: str) -> dict[str, Case]:
    """Make the cases of a good token: the signature alone, ours with its keys at hand, theirs."""
    public = issuer.keys[-1].private.public_key()
    signed, _, encoded = token.rpartition(".")
    data, signature = signed.encode(), jwt.utils.base64url_decode(encoded)
    raw = repeated(lambda: public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256()))
    theirs = their_verifier(issuer.url)
    cases = raw, repeated(lambda: at_once(ours, token)), repeated(lambda: theirs(token))
    return dict(zip(NAMES, cases, strict=True))


async def cpu(issuer: Issuer) -> None:
    """Measure what a token costs: the signature alone, ours, theirs; a good one, and junk."""
    token, ours = issuer.token(), our_verifier(issuer.url)
    async with ours.cache:
        await ours.verify(token)
        cases = good(issuer, ours, token)
        show(f"verifying {len(token)} bytes, CPU", measured(cases, 1000))
        theirs = their_verifier(issuer.url)
        junk = cases[NAMES[0]], refused(lambda token: at_once(ours, token)), refused(theirs)
        show("refusing 200 KB of junk, CPU", measured(dict(zip(NAMES, junk, strict=True)), 200))


async def our_stall(url: str) -> float:
    """Measure the event loop's longest stall during a fetch, in seconds."""
    ours = our_verifier(url, fetch_deadline=1, backoff_first=3600, backoff_last=3600)
    await asyncio.sleep(0.05)
    async with Stall() as stall, ours.cache as cache:
        await cache.refresh()
    return stall.seconds


def their_stall(url: str) -> float:
    """Measure how long theirs takes, which is how long a loop that calls it stands still; up to PATIENCE."""
    client = jwt.PyJWKClient(url, timeout=1)
    fetch = threading.Thread(target=lambda: quietly(client.fetch_data), daemon=True)
    began = time.perf_counter()
    fetch.start()
    fetch.join(PATIENCE)
    return time.perf_counter() - began


def quietly(act: Callable[..., Any], *arguments: Any) -> bool:
    """Return whether an act comes to a good end."""
    try:
        act(*arguments)
    except Exception:  # noqa: BLE001 - what goes wrong is what is counted
        return False
    return True


async def succeeds(act: Awaitable[Any]) -> bool:
    """Tell the same of what is awaited."""
    try:
        await act
    except (InvalidToken, KeysUnavailable):
        return False
    return True


async def stalls(hostile: HostileServer) -> list[Comparison]:
    """Measure a fetch from each kind of bad server."""
    async with Stall() as idle:
        await asyncio.sleep(1)
    rows = [Comparison("longest stall, no fetch at all", "-", f"{idle.seconds * 1000:.1f} ms", "-")]
    ours_by = {
        behaviour: statistics.median(
            [await our_stall(hostile.url + hostile.path(behaviour)) for _ in range(3)]
        )
        for behaviour in BEHAVIOURS
    }
    for behaviour, ours in ours_by.items():  # theirs last: its endless threads would delay ours
        theirs = await asyncio.to_thread(their_stall, hostile.url + hostile.path(behaviour))
        theirs_shown = f"{theirs * 1000:.0f} ms" if theirs < PATIENCE else f"more than {PATIENCE:.0f} s"
        rows.append(
            Comparison(f"longest stall, {behaviour}", "<= 10 ms", f"{ours * 1000:.1f} ms", theirs_shown)
        )
    return rows


async def cold_start(key: KeyPair) -> Comparison:
    """Count the fetches for many first requests at once."""
    with serving(key) as issuer:
        token, ours = issuer.token(), our_verifier(issuer.url)
        async with ours.cache:
            await asyncio.gather(*(ours.verify(token) for _ in range(REQUESTS)))
        our_fetches, issuer.fetches = issuer.fetches, 0
        theirs = their_verifier(issuer.url)
        with ThreadPoolExecutor(THREADS) as pool:
            await asyncio.to_thread(lambda: list(pool.map(theirs, [token] * REQUESTS)))
        return Comparison(f"fetches, {REQUESTS} first requests", "1", str(our_fetches), str(issuer.fetches))


async def flood(key: KeyPair) -> Comparison:
    """Count the fetches in a flood of made-up kids; both verifiers have the same cooldown."""
    with serving(key) as issuer:
        made_up = [issuer.token(kid=f"made-up-{number}") for number in range(50)]
        ours = our_verifier(issuer.url, cooldown=COOLDOWN)
        async with ours.cache:
            await ours.verify(issuer.token())
            began = time.monotonic()
            while time.monotonic() - began < OUTAGE:
                await asyncio.gather(*(succeeds(ours.verify(token)) for token in made_up))
        our_fetches, issuer.fetches = issuer.fetches, 0
        theirs = their_verifier(issuer.url, cooldown_duration=COOLDOWN)
        theirs(issuer.token())
        began = time.monotonic()
        while time.monotonic() - began < OUTAGE:
            for token in made_up:
                quietly(theirs, token)
        what = f"fetches, made-up kids, {OUTAGE / COOLDOWN:.0f} cooldowns"
        return Comparison(what, f"<= {1 + OUTAGE / COOLDOWN:.0f}", str(our_fetches), str(issuer.fetches))


async def outage(key: KeyPair) -> list[Comparison]:
    """Count the good tokens that are accepted while the issuer is down, and measure what each costs."""
    with serving(key) as issuer:
        token = issuer.token()
        ours = our_verifier(issuer.url, ttl_floor=LIFE, ttl_ceiling=LIFE)
        theirs = their_verifier(issuer.url, lifespan=LIFE)
        accepted: tuple[list[bool], list[bool]] = ([], [])
        async with ours.cache:
            await ours.verify(token)
            theirs(token)
            before = cost(lambda: at_once(ours, token))
            issuer.down = True
            began = time.monotonic()
            while time.monotonic() - began < OUTAGE:
                accepted[0].append(await succeeds(ours.verify(token)))
                accepted[1].append(await asyncio.to_thread(quietly, theirs, token))
                await asyncio.sleep(0.002)
            during = cost(lambda: at_once(ours, token))
        our_share, their_share = (f"{100 * sum(each) / len(each):.1f} %" for each in accepted)
        return [
            Comparison("good tokens accepted, issuer down", "100 %", our_share, their_share),
            Comparison(
                "CPU per token, issuer up, then down", "unchanged", f"{before:.0f}, {during:.0f} us", "-"
            ),
        ]


def cost(act: Callable[[], object]) -> float:
    """Return the median CPU time of an act in microseconds."""
    times = []
    for _ in range(500):
        began = time.thread_time()
        act()
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1e6


async def rotation(old: KeyPair, new: KeyPair) -> list[Comparison]:
    """Rotate without notice, and withdraw a key; theirs has its default cooldown for the first."""
    with serving(old) as issuer:
        before = issuer.token()
        ours = our_verifier(issuer.url, ttl_floor=LIFE, ttl_ceiling=60, ttl_default=60, cooldown=0.1)
        theirs = their_verifier(issuer.url)
        async with ours.cache:
            await ours.verify(before)
            theirs(before)
            issuer.fetches = 0
            await asyncio.sleep(0.1)
            issuer.keys.append(new)
            our_answer = "accepted" if await succeeds(ours.verify(issuer.token())) else "refused"
            our_fetches, issuer.fetches = issuer.fetches, 0
            their_answer = "accepted" if quietly(theirs, issuer.token()) else "refused (30 s)"
        rows = [
            Comparison(
                "first token of a new key, fetches",
                "accepted, 1",
                f"{our_answer}, {our_fetches}",
                f"{their_answer}, {issuer.fetches}",
            )
        ]
        issuer.keys = [old, new]
        ours = our_verifier(issuer.url, ttl_floor=LIFE, ttl_ceiling=LIFE)
        theirs = their_verifier(issuer.url, lifespan=LIFE)
        async with ours.cache:
            await ours.verify(before)
            theirs(before)
            issuer.keys = [new]
            withdrawn = time.monotonic()
            ended: dict[str, float] = {}
            while ended.keys() != {"ours", "theirs"} and time.monotonic() - withdrawn < PATIENCE:
                accepts = {"ours": await succeeds(ours.verify(before)), "theirs": quietly(theirs, before)}
                for name in (name for name, accepted in accepts.items() if not accepted):
                    ended.setdefault(name, time.monotonic() - withdrawn)
                await asyncio.sleep(0.005)
        theirs_shown = [f"{ended[name]:.2f} s" if name in ended else "never" for name in ("ours", "theirs")]
        rows.append(Comparison("withdrawn key refused after", f"<= {LIFE} s, the ttl", *theirs_shown))
        return rows


async def run() -> None:
    """Measure everything, and print it."""
    old, new = KeyPair(), KeyPair()
    with serving(old) as issuer:
        await cpu(issuer)
    with HostileServer({"keys": [old.jwk]}) as hostile:
        rows = await stalls(hostile)
    rows += [await cold_start(old), await flood(old), *await outage(old), *await rotation(old, new)]
    table = Table(title="bad days", title_justify="left", box=None)
    for name in ("metric", "target", "jwks-verifier", "PyJWT's PyJWKClient"):
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def main() -> None:
    """Run it."""
    os.environ["no_proxy"] = "127.0.0.1"  # PyJWKClient would ask a proxy for loopback
    asyncio.run(run())


if __name__ == "__main__":
    main()
