"""What one process that serves asks of itself and of the database: for a token, and for the care of the key ring.

Where the server comes from, and what is done with the tables, is left to `growth`.
"""

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import psycopg
from asking import cpu_seconds, pgbench
from pydantic import SecretStr
from scaling import Section, count
from seeding import add_accounts, add_families
from sqlalchemy import Engine, event
from support.postgresql import new_database

from issuer.administration.clients import register_client
from issuer.grants.response import TokenResponse
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.policy import Policy
from issuer.oauth import AuthMethod, OAuthRequest
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.web.well_known.jwks import RenderedKeySet
from issuer.wiring import Issuer, build

PROCESSES = 4_000
"""Whose heartbeats are there when one more is sent: 1000 nodes of four workers."""
LOOKS = TOKENS = 1_000
ROUNDS = 5
LOOK = "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT document FROM key_ring;\nCOMMIT;\n"
PASSPHRASE = "a passphrase for a measurement"  # noqa: S105 - of a database that is thrown away


def _issuer(url: str) -> Issuer:
    settings = Settings(database_url=SecretStr(url), keys="database", keys_passphrase=SecretStr(PASSPHRASE))
    issuer = build(settings)
    issuer.keys.node.refresh()
    return issuer


def issuing(server: str) -> Section:
    """Return the CPU that a token costs below HTTP: of the node, and of the database."""
    url = new_database(server)
    issuer = _issuer(url)
    now = issuer.clock()
    client, secret = register_client(
        issuer.clients.store, "bench", AuthMethod.POST, frozenset({"items:read"}), (), now
    )
    form = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret or ""}
    sessions: list[str] = []  # each is refreshed once: the issuer paces the rotations of one
    add_accounts(issuer.database, range(TOKENS), "kept, but never verified here")
    add_families(issuer.database, range(TOKENS), TOKENS, sessions)
    kid = issuer.keys.node.view.ring.current(now).kid

    def token(parameters: Mapping[str, str]) -> TokenResponse:
        pipeline = issuer.tokens.pipeline
        return pipeline.sign(pipeline.grant(OAuthRequest(parameters), Origin(), issuer.clock()))

    def refresh() -> None:
        held = {"grant_type": "refresh_token", "client_id": "first-party"}
        token({**held, "refresh_token": sessions.pop()})

    cases = {
        "RS256 signature alone": lambda: issuer.keys.signer.sign(kid, b"x" * 400),
        "`client_credentials`": lambda: token(form),
        "`refresh_token`": refresh,
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    with psycopg.connect(url, autocommit=True) as connection:
        for name in [*cases] * ROUNDS:
            issuer.keys.node.refresh()
            before = time.process_time(), cpu_seconds(connection)
            for _ in range(TOKENS // ROUNDS):
                cases[name]()
            after = time.process_time(), cpu_seconds(connection)
            spent[name].append((after[0] - before[0], after[1] - before[1]))
    issuer.close()
    rows = []
    for name, rounds in spent.items():
        ours = statistics.median(each[0] for each in rounds) / (TOKENS // ROUNDS)
        theirs = sum(each[1] for each in rounds) / TOKENS  # its clock is too coarse for a median
        rows.append([name, f"{ours * 1e6:.0f}", f"{theirs * 1e6:.0f}"])
    return Section("issuing", ["a token, below HTTP", "CPU of the node, us", "CPU of the database, us"], rows)


def ring(server: str) -> Section:
    """Return what a process that serves asks of the database, and how often the database could answer."""
    url = new_database(server)
    issuer = _issuer(url)
    counts: Counter[str] = Counter()
    for what in ("begin", "before_cursor_execute"):
        event.listen(Engine, what, lambda *_, what=what: counts.update([what]))
    with psycopg.connect(url, autocommit=True) as connection:
        before = cpu_seconds(connection)
        for _ in range(LOOKS):
            issuer.keys.node.refresh()
        spent = (cpu_seconds(connection) - before) / LOOKS
    transactions, statements = counts["begin"] / LOOKS, counts["before_cursor_execute"] / LOOKS
    beat = heartbeat(issuer.keys.heartbeats, issuer.policy)
    looks = max(pgbench(url, LOOK, 8) for _ in range(3))
    body, _ = RenderedKeySet().of(issuer.keys.node.view.published_keys())
    issuer.close()
    rows = [
        ["transactions of a look at the ring", f"{transactions:.1f}"],
        ["statements of it", f"{statements:.1f}"],
        ["CPU of the database for it, us", f"{spent * 1e6:.0f}"],
        ["reads of the ring that the server does a second, 8 connections", count(looks)],
        [f"a heartbeat among {PROCESSES} processes, milliseconds", f"{beat * 1000:.1f}"],
        ["bytes of the JWKS, two RSA keys of 2048 bits", str(len(body))],
    ]
    return Section("ring", ["care of the key ring", "measured"], rows)


def heartbeat(store: HeartbeatStore, policy: Policy) -> float:
    """Return the median seconds of a heartbeat while as many processes send theirs."""
    now, spent = datetime.now(UTC), []
    for each in range(PROCESSES + 500):
        beat = Heartbeat.of(f"process {each % PROCESSES}", "node", 1, policy, now)
        began = time.perf_counter()
        store.beat(beat, now - timedelta(hours=1))
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[PROCESSES:])
