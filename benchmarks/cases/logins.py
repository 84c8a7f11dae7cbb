"""Log-ins: a steady rate compared with raw argon2, and the latency of the JWKS during two hundred log-ins at once.

Hashing takes both cores: the server and the load generator share them; argon2 alone is measured separately.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import storm
from limits import raw_argon2
from load import FORM, Request, loading
from rounds import Bench, Case, Findings, Sample, folder_of
from seeding import add_accounts, username
from servers import Running, installed, issuer

from issuer.accounts.passwords import Passwords
from issuer.database.database import Database

CONNECTIONS = 8
ACCOUNTS = 50
PEOPLE = 200
STORMS = 3
IDLE_SECONDS = 2.0
OURS, LIMIT = "issuer, 1 worker", "argon2 alone"
IDLE, BUSY = "JWKS, no log-ins", f"JWKS, {PEOPLE} log-ins at once"


@contextmanager
def with_accounts(folder: Path) -> Iterator[Running]:
    """Run an issuer with accounts that all have one password; `alice` is one of them."""
    with installed(folder / "issuer") as installation:
        server = issuer(installation)
        database = Database(f"sqlite:///{folder / 'issuer' / 'issuer.db'}")
        add_accounts(database, range(ACCOUNTS), Passwords().hash(storm.PASSWORD))
        database.close()
        installation.command("users", "add", "alice", "--password-stdin", stdin=storm.PASSWORD)
        yield server


def fetched(milliseconds: list[float]) -> Sample:
    """Return the statistics of fetches."""
    return {"p50_ms": storm.percentile(milliseconds, 50), "p99_ms": storm.percentile(milliseconds, 99)}


def idle(server: Running) -> Sample:
    """Fetch the JWKS from an issuer that has nothing else to do."""
    with storm.fetching(f"{server.url}/.well-known/jwks.json") as milliseconds:
        time.sleep(IDLE_SECONDS)
    return fetched(milliseconds)


def busy(server: Running) -> Sample:
    """Fetch it while so many people log in; refused log-ins are retried after `Retry-After`."""
    with storm.fetching(f"{server.url}/.well-known/jwks.json") as milliseconds:
        asyncio.run(storm.storm(server.url, PEOPLE))
    return fetched(milliseconds)


def measure(bench: Bench) -> Findings:
    """Measure both."""
    with folder_of(bench, "log-ins") as folder, with_accounts(folder) as server:
        password = quote(storm.PASSWORD)
        bodies = [f"username={username(number)}&password={password}" for number in range(ACCOUNTS)]
        log_in = Request("/login", "POST", FORM, bodies)
        load = loading(server, log_in, CONNECTIONS, bench.seconds)
        limit = partial(raw_argon2, os.cpu_count() or 1)
        rounds = bench.taking_turns("log-ins", {LIMIT: limit, OURS: load})
        storms = {IDLE: partial(idle, server), BUSY: partial(busy, server)}
        stormy = bench.taking_turns("log-ins", storms, STORMS if not bench.full else None)
    rows = {
        "log-ins": rounds.ratio(OURS, LIMIT, "per_second"),
        "storm": stormy.medians()[BUSY]["p99_ms"],
    }
    by_cpu = {"log-ins": rounds.ratio(LIMIT, OURS, "cpu_us")}
    return Findings({**rounds.medians(), **stormy.medians()}, rows, by_cpu)


CASE = Case("log-ins", ("log-ins", "storm"), measure)
