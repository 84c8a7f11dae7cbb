"""How cost grows: with accounts, clients and sessions up to a million each, with published keys, and with nodes.

Requests are made below HTTP, in this process; their CPU is this process's and the database server's together. What a
database waits for its disk is left to `refreshing`.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import verifier as function
from cases.tokens import client_credentials
from load import loading
from pydantic import SecretStr
from rounds import Bench, Case, Curve, Findings, folder_of
from seeding import add_accounts, add_clients, add_families, analyze, client_id, username
from servers import Running, fresh_database, installed, issuer, postgresql
from support.servers import free_port
from timing import cpu_us

from issuer.database.database import Database
from issuer.digests import digest
from issuer.keyring.key import Key
from issuer.maintenance.pruning import prune
from issuer.oauth import GrantType, OAuthRequest
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.web.well_known.jwks import RenderedKeySet
from issuer.wiring import build
from jwks_verifier.testing import KeyPair

LEAST = 100
CALLS = 400
UPKEEP_CALLS = 5
STRETCHES = 5
SEED = 1
SECRET = "a secret of all clients"  # noqa: S105 - in a temporary database
KEYS = (1, 2, 5, 10, 20)
NODES = (1, 2, 4, 8)
NODE_SECONDS = 5.0
SETTLE_SECONDS = 1.0
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"


@dataclass
class Place:
    """One database as it grows, with the issuer on it."""

    name: str
    url: str
    folder: Path
    server: Running | None = None
    size: int = 0

    def grow(self, size: int) -> None:
        """Add accounts, clients and sessions until there are so many of each."""
        database = Database(self.url)
        database.migrate()
        added = range(self.size, size)
        add_accounts(database, added, "kept, but never verified here")
        add_clients(database, added, digest(SECRET))
        add_families(database, added, size)
        analyze(database)
        database.close()
        self.size = size

    def built(self) -> Issuer:
        """Return an issuer that accepts every password: hashing, measured separately, would dominate."""
        settings = Settings(database_url=SecretStr(self.url), keys=str(self.folder / "keys"))
        made = build(settings)
        made.accounts.passwords.verify = lambda *_: None  # type: ignore[method-assign]
        made.keys.node.refresh()
        return made

    def cost(self, act: Callable[[int], object], calls: int) -> float:
        """Return the microseconds of CPU for each call, the database server's among them.

        Ours is the median of some stretches: on a busy machine the same work costs more now and then.
        """
        before = self.server.cpu_seconds() if self.server else 0.0
        ours = statistics.median(cpu_us(act, calls // STRETCHES) for _ in range(STRETCHES))
        return ours + ((self.server.cpu_seconds() - before) / calls * 1e6 if self.server else 0.0)


def requests(place: Place, made: Issuer) -> Iterator[tuple[str, float]]:
    """Yield what each kind of request costs at the present size; whom it is about is drawn by chance."""
    drawn, grants, origin = random.Random(SEED), made.tokens, Origin(address="192.0.2.7")  # noqa: S311 - no secret
    refresh_tokens: list[str] = []
    access_tokens: list[str] = []

    def log_in(calls: int) -> None:
        for _ in range(calls):
            parameters = {"username": username(drawn.randrange(place.size)), "password": "x", "scope": ""}
            answer = grants.pipeline.login(parameters, origin, made.clock())
            refresh_tokens.append(answer.refresh_token or "")
            access_tokens.append(answer.access_token)

    def client(calls: int) -> None:
        for _ in range(calls):
            form = {
                "grant_type": GrantType.CLIENT_CREDENTIALS.value,
                "client_id": client_id(drawn.randrange(place.size)),
                "client_secret": SECRET,
            }
            grants.pipeline.sign(grants.pipeline.grant(OAuthRequest(form), origin, made.clock()))

    def refresh(calls: int) -> None:
        for _ in range(calls):
            form = {"grant_type": GrantType.REFRESH_TOKEN.value, "client_id": "first-party"}
            form["refresh_token"] = refresh_tokens.pop()
            grants.pipeline.sign(grants.pipeline.grant(OAuthRequest(form), origin, made.clock()))

    known = made.clients.store.by_id(client_id(0))
    assert known is not None, "clients were added"  # noqa: S101 - a benchmark of nothing is none

    def introspect(calls: int) -> None:
        for _ in range(calls):
            grants.introspection.introspect(known, {"token": access_tokens.pop()}, made.clock())

    kid = made.keys.node.view.ring.current(made.clock()).kid
    acts = {
        "log-in, hashing left out": log_in,
        "refresh": refresh,
        "introspection": introspect,
        "client_credentials": client,
        "a signature alone": function.repeated(lambda: made.keys.signer.sign(kid, b"x" * 400)),
    }
    for name, act in acts.items():
        made.keys.node.refresh()
        yield name, place.cost(act, CALLS)


def upkeep(place: Place, made: Issuer) -> Iterator[tuple[str, float]]:
    """Yield what no request waits for costs at the present size."""
    prunes = function.repeated(lambda: prune(made.database, made.clock()))
    counts = function.repeated(lambda: made.tokens.families.count_active(made.clock()))
    yield "pruning, nothing expired", place.cost(prunes, UPKEEP_CALLS)
    yield "counting sessions", place.cost(counts, UPKEEP_CALLS)


def sizes(largest: int) -> Iterator[int]:
    """Yield the sizes, ten times as many each."""
    size = LEAST
    while size <= largest:
        yield size
        size *= 10


def with_rows(bench: Bench, places: list[Place]) -> dict[str, Curve]:
    """Measure each database at each size."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {place.name: {} for place in places}
    curves["upkeep"] = {}
    for size in sizes(bench.largest):
        for place in places:
            bench.tell(f"growth, {place.name}: {size} rows in each table")
            place.grow(size)
            made = place.built()
            for name, cost in requests(place, made):
                curves[place.name].setdefault(name, []).append((size, cost))
            for name, cost in upkeep(place, made):
                curves["upkeep"].setdefault(f"{name}, {place.name}", []).append((size, cost))
            made.close()
    x, y = "accounts, clients and sessions, each", "CPU, microseconds"
    return {
        **{
            f"growth-{place.name.lower()}": Curve(f"A request on {place.name}", x, y, curves[place.name])
            for place in places
        },
        "growth-upkeep": Curve("Background work", x, y, curves["upkeep"], log_y=True),
    }


def keys_of(pairs: list[KeyPair]) -> list[Key]:
    """Return these as published keys."""
    moment, none = datetime.now(UTC), timedelta(0)
    return [Key(pair.kid, "RS256", pair.jwk, moment, moment, none, none, none) for pair in pairs]


def rendering(keys: list[Key], *, known: bool) -> Callable[[int], None]:
    """Return the act of answering with these keys, for the first time or again."""
    kept = RenderedKeySet()
    kept.of(keys)

    def act(calls: int) -> None:
        for _ in range(calls):
            (kept if known else RenderedKeySet()).of(keys)

    return act


async def verifying(pairs: list[KeyPair]) -> float:
    """Return what verifying a token costs with these keys at hand."""
    with function.serving(*pairs) as served:
        ours, token = function.our_verifier(served.url), served.token()
        async with ours.cache:
            await ours.verify(token)
            return cpu_us(function.repeated(lambda: function.at_once(ours, token)), CALLS)


def with_keys(bench: Bench) -> Curve:
    """Measure the JWKS and the verifier with so many published keys."""
    bench.tell("growth, keys: published keys")
    pairs = [KeyPair() for _ in range(max(KEYS))]
    series: dict[str, list[tuple[float, float]]] = {}
    for count in KEYS:
        keys = keys_of(pairs[:count])
        costs = {
            "JWKS rendered, once for each set of keys": cpu_us(rendering(keys, known=False), CALLS),
            "JWKS, for each request": cpu_us(rendering(keys, known=True), CALLS),
            "verifying a token": asyncio.run(verifying(pairs[:count])),
        }
        for name, cost in costs.items():
            series.setdefault(name, []).append((count, cost))
    return Curve("Published keys", "published keys", "CPU, microseconds", series, log_x=False, log_y=True)


def with_nodes(bench: Bench, folder: Path, database: Running) -> tuple[Curve, Curve]:
    """Measure so many nodes on one PostgreSQL that have nothing to do, and tokens of one among them."""
    idle: dict[str, list[tuple[float, float]]] = {"each node": [], "PostgreSQL, for all of them": []}
    tokens: list[tuple[float, float]] = []
    settings = {"ISSUER_DATABASE_URL": fresh_database(database), "ISSUER_KEYS": "database"}
    with installed(folder / "nodes", **settings) as installation:
        nodes: list[Running] = []
        for count in NODES:
            bench.tell(f"growth, nodes: {count}")
            while len(nodes) < count:
                port = installation.port if not nodes else free_port()
                nodes.append(issuer(installation, port=port))
            time.sleep(SETTLE_SECONDS)
            before = [each.cpu_seconds() for each in (*nodes, database)]
            time.sleep(NODE_SECONDS)
            spent = [
                (each.cpu_seconds() - then) / NODE_SECONDS * 1000
                for each, then in zip((*nodes, database), before, strict=True)
            ]
            idle["each node"].append((count, sum(spent[:-1]) / count))
            idle["PostgreSQL, for all of them"].append((count, spent[-1]))
            load = loading(nodes[0], client_credentials(installation.machine), 8, bench.seconds)
            tokens.append((count, load()["cpu_us"]))
    return (
        Curve("Nodes that have nothing to do", "nodes", "CPU, milliseconds a second", idle),
        Curve("A token of one node", "nodes", "CPU, microseconds", {"client_credentials": tokens}),
    )


def measure(bench: Bench) -> Findings:
    """Measure all of it."""
    curves: dict[str, Curve] = {}
    with folder_of(bench, "growth") as folder, ExitStack() as stack:
        (folder / SQLITE).mkdir()
        (folder / POSTGRESQL).mkdir()
        places = [Place(SQLITE, f"sqlite:///{folder / SQLITE / 'issuer.db'}", folder / SQLITE)]
        running = bench.unless_missing(stack, "growth on PostgreSQL", postgresql(durable=False))
        if running:
            places.append(Place(POSTGRESQL, fresh_database(running), folder / POSTGRESQL, running))
            curves["growth-nodes"], curves["growth-node-tokens"] = with_nodes(bench, folder, running)
        curves["growth-keys"] = with_keys(bench)
        curves |= with_rows(bench, places)
    return Findings({}, curves=curves)


CASE = Case("growth", (), measure, full_only=True)
