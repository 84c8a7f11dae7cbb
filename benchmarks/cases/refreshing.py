"""Refreshes on SQLite and PostgreSQL, both durable, compared with `client_credentials`.

The issuer, the load generator and PostgreSQL share the two cores.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cases.tokens import client_credentials
from limits import durable_writes
from load import Chains, at, loading
from rounds import Bench, Case, Contestant, Findings, folder_of
from seeding import add_accounts, add_families
from servers import Running, fresh_database, installed, issuer, postgresql
from support.servers import Installation

from issuer.clients.client import FIRST_PARTY_ID
from issuer.database.database import Database

CONNECTIONS = (1, 8, 32)
JUDGED = 8
SESSIONS = 4000
"""So many that each has a pause between its rotations: the issuer paces those of one session."""
SQLITE, POSTGRESQL = "on SQLite", "on PostgreSQL"
REFRESH, CLIENT = "refresh {}", "client_credentials {}"
DISK = "the disk alone, one page at a time"


def sessions(url: str, count: int) -> list[str]:
    """Make so many sessions, each of another user, and return the refresh token of each."""
    database, made = Database(url), list[str]()
    add_accounts(database, range(count), "kept, but never verified here")
    add_families(database, range(count), count, made)
    database.close()
    return made


def turns_on(
    where: str, installation: Installation, url: str, seconds: int, database: Running | None
) -> dict[str, Contestant]:
    """Return the contestants on one database: refreshing, and client_credentials, both as often."""
    server = issuer(installation)
    all_tokens = sessions(url, SESSIONS * len(CONNECTIONS))
    found: dict[str, Contestant] = {}
    for connections in CONNECTIONS:
        mine, all_tokens = all_tokens[:SESSIONS], all_tokens[SESSIONS:]
        each = [mine[number::connections] for number in range(connections)]
        chains = Chains(server, "/oauth2/token", each, FIRST_PARTY_ID)
        window = seconds if connections == JUDGED else max(1, seconds // 2)
        found[at(REFRESH.format(where), connections)] = partial(chains.refresh, window, database)
    asked = client_credentials(installation.machine)
    found[at(CLIENT.format(where), JUDGED)] = loading(server, asked, JUDGED, seconds, database=database)
    return found


def on_postgresql(bench: Bench, folder: Path, stack: ExitStack) -> dict[str, Contestant]:
    """Return the contestants on PostgreSQL; none, and noted, where it is missing."""
    running = bench.unless_missing(stack, "refresh on PostgreSQL", postgresql())
    if running is None:
        return {}
    url = fresh_database(running)
    installation = stack.enter_context(installed(folder / "postgresql", ISSUER_DATABASE_URL=url))
    return turns_on(POSTGRESQL, installation, url, bench.seconds, running)


def measure(bench: Bench) -> Findings:
    """Measure it."""
    with folder_of(bench, "refresh") as folder, ExitStack() as stack:
        bench.tell("refresh: starting the servers")
        installation = stack.enter_context(installed(folder / "sqlite"))
        url = f"sqlite:///{installation.folder / 'issuer.db'}"
        turns = turns_on(SQLITE, installation, url, bench.seconds, None)
        turns |= on_postgresql(bench, folder, stack)
        turns[DISK] = partial(durable_writes, folder)
        rounds = bench.taking_turns("refresh", turns)
    rows, by_cpu = (
        {
            row: rounds.ratio(at(REFRESH.format(where), JUDGED), at(CLIENT.format(where), JUDGED), metric)
            for row, where in (("refresh-sqlite", SQLITE), ("refresh-postgresql", POSTGRESQL))
        }
        for metric in ("per_second", "per_cpu_second")
    )
    return Findings(rounds.medians(), rows, by_cpu)


CASE = Case("refresh", ("refresh-sqlite", "refresh-postgresql"), measure)
