"""Tokens by `client_credentials` over HTTP, compared with the signature alone and with npm's oidc-provider.

Each has the two cores to itself in its turn, with wrk; openssl uses one.
"""

import base64
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from limits import openssl_signs, raw_sign
from load import FORM, Request, at, loading
from pydantic import SecretStr
from rounds import Bench, Case, Contestant, Curve, Findings, Rounds, Sample, folder_of
from servers import installed, issuer, provider
from timing import cpu_us

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod, OAuthRequest
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.wiring import build

CONNECTIONS = (1, 8, 32)
MORE_CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
JUDGED = 8
"""The connections at which targets are judged."""
ONE, TWO, PEER = "issuer, 1 worker", "issuer, 2 workers", "oidc-provider"
OPENSSL, SIGN = "openssl, signatures on one core", "cryptography, one signature"
BELOW_HTTP = "issuer below HTTP, one token"
CALLS = 200


def client_credentials(client: tuple[str, str]) -> Request:
    """Return the request of a client for itself."""
    basic = base64.b64encode(":".join(client).encode()).decode()
    headers = {"Authorization": f"Basic {basic}", **FORM}
    return Request("/oauth2/token", "POST", headers, ["grant_type=client_credentials&scope=items:read"])


def below_http(issuer: Issuer) -> Contestant:
    """Return the contestant that asks for tokens without a server: client looked up, token signed."""
    scope = frozenset({"items:read"})
    client, secret = register_client(
        issuer.clients.store, "bench", AuthMethod.POST, scope, (), issuer.clock()
    )
    form = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret or ""}

    def tokens(calls: int) -> None:
        pipeline = issuer.tokens.pipeline
        for _ in range(calls):
            pipeline.sign(pipeline.grant(OAuthRequest(form), Origin(), issuer.clock()))

    def sample() -> Sample:
        issuer.keys.node.refresh()  # a node that has not looked for long does not sign
        return {"cpu_us": cpu_us(tokens, CALLS)}

    return sample


def contestants(bench: Bench, folder: Path, stack: ExitStack) -> dict[str, Contestant]:
    """Start all servers, and return the contestants."""
    installation = stack.enter_context(installed(folder / "issuer"))
    one = issuer(installation)
    doubled = stack.enter_context(installed(folder / "two"))
    two = issuer(doubled, workers=2)
    theirs = provider(folder, installation.machine, installation.service_url)
    peer = bench.unless_missing(stack, "tokens beside a peer", theirs)
    settings = Settings(database_url=SecretStr(f"sqlite:///{folder}/in.db"), keys=str(folder / "keys"))
    inside = build(settings)
    stack.callback(inside.close)
    inside.keys.node.refresh()
    found: dict[str, Contestant] = {
        OPENSSL: partial(openssl_signs, 1),
        SIGN: partial(raw_sign, generate_private_key(65537, 2048)),
        BELOW_HTTP: below_http(inside),
    }
    request, same = client_credentials(installation.machine), client_credentials(doubled.machine)
    for connections in MORE_CONNECTIONS if bench.full else CONNECTIONS:
        seconds = bench.seconds if connections == JUDGED else max(1, bench.seconds // 2)
        found[at(ONE, connections)] = loading(one, request, connections, seconds)
        found[at(TWO, connections)] = loading(two, same, connections, seconds)
        if peer:
            elsewhere = replace(request, path="/token")
            found[at(PEER, connections)] = loading(peer, elsewhere, connections, seconds)
    return found


def measure(bench: Bench) -> Findings:
    """Measure it."""
    with folder_of(bench, "tokens") as folder, ExitStack() as stack:
        bench.tell("tokens: starting the servers")
        turns = contestants(bench, folder, stack)
        for who in (ONE, TWO, PEER):
            turns.get(at(who, JUDGED), dict)()  # warm
        rounds = bench.taking_turns("tokens", turns)
    ours, peers = at(ONE, JUDGED), at(PEER, JUDGED)
    rows = {
        "tokens": rounds.ratio(ours, OPENSSL, "per_second"),
        "tokens-two-workers": rounds.ratio(at(TWO, JUDGED), OPENSSL, "per_second"),
        "token-cpu": rounds.ratio(ours, SIGN, "cpu_us"),
        "tokens-peer": rounds.ratio(ours, peers, "per_cpu_second"),
        "tokens-p99": rounds.ratio(ours, peers, "p99_ms"),
    }
    curve = over_connections(rounds, MORE_CONNECTIONS if bench.full else CONNECTIONS)
    by_cpu = {"tokens": rounds.ratio(SIGN, ours, "cpu_us")}
    return Findings(rounds.medians(), rows, by_cpu, {"throughput": curve})


def over_connections(rounds: Rounds, connections: Iterable[int]) -> Curve:
    """Return tokens a second over connections; openssl's line is level."""
    medians = rounds.medians()
    series = {
        who: [
            (float(each), medians[at(who, each)]["per_second"])
            for each in connections
            if at(who, each) in medians
        ]
        for who in (ONE, TWO, PEER)
    }
    series[OPENSSL] = [(float(each), medians[OPENSSL]["per_second"]) for each in connections]
    present = {who: points for who, points in series.items() if points}
    return Curve("client_credentials", "connections", "tokens a second", present)


CASE = Case("tokens", ("tokens", "tokens-two-workers", "token-cpu", "tokens-peer", "tokens-p99"), measure)
