"""Owns the case of issuing: `client_credentials` over HTTP, beside the bare signature and npm's oidc-provider.

One worker, the peer and openssl have one core each in their turn, and wrk another; two workers share both with wrk.
"""

import base64
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from limits import openssl_signs, raw_sign
from load import Request, wrk
from rounds import Bench, Case, Contestant, Findings, Sample, folder_of
from servers import ALL_CORES, SERVER_CORES, Running, installed, issuer, provider

CONNECTIONS = (1, 8, 32)
MORE_CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
JUDGED = 8
"""The connections at which targets are judged."""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE, TWO, PEER = "issuer, 1 worker", "issuer, 2 workers", "oidc-provider"
OPENSSL, SIGN = "openssl, RSA-2048 signatures on one core", "cryptography, one signature"


def at(who: str, connections: int) -> str:
    """Name a contestant."""
    return f"{who}, {connections} connection{'s' if connections > 1 else ''}"


def client_credentials(client: tuple[str, str]) -> Request:
    """Return the request of a client for itself."""
    basic = base64.b64encode(":".join(client).encode()).decode()
    headers = {"Authorization": f"Basic {basic}", **FORM}
    return Request("/oauth2/token", "POST", headers, ["grant_type=client_credentials&scope=items:read"])


def loading(
    server: Running, request: Request, connections: int, seconds: int, cores: set[int] | None = None
) -> Contestant:
    """Return the contestant that loads a server so."""

    def load() -> Sample:
        done = wrk(server, request, connections, seconds, **({"cores": cores} if cores else {}))
        return {**asdict(done), "per_cpu_second": done.per_cpu_second}

    return load


def measure(bench: Bench) -> Findings:
    """Measure it."""
    with folder_of(bench, "tokens") as folder, ExitStack() as stack:
        installation = stack.enter_context(installed(folder / "issuer"))
        bench.tell("tokens: starting the servers")
        one = issuer(installation, cores=SERVER_CORES)
        request = client_credentials(installation.machine)
        doubled = stack.enter_context(installed(folder / "two"))
        two = issuer(doubled, workers=2, cores=ALL_CORES)
        theirs = provider(folder, installation.machine, installation.service_url, SERVER_CORES)
        peer = bench.unless_missing(stack, "tokens beside a peer", theirs)
        key = generate_private_key(65537, 2048)
        contestants: dict[str, Callable[[], Sample]] = {
            OPENSSL: partial(openssl_signs, 1, SERVER_CORES),
            SIGN: partial(raw_sign, key),
        }
        for connections in MORE_CONNECTIONS if bench.full else CONNECTIONS:
            seconds = bench.seconds if connections == JUDGED else max(1, bench.seconds // 2)
            contestants[at(ONE, connections)] = loading(one, request, connections, seconds)
            contestants[at(TWO, connections)] = loading(
                two, client_credentials(doubled.machine), connections, seconds, ALL_CORES
            )
            if peer:
                contestants[at(PEER, connections)] = loading(
                    peer, replace(request, path="/token"), connections, seconds
                )
        for name in (at(ONE, JUDGED), at(TWO, JUDGED), at(PEER, JUDGED)):
            if name in contestants:
                contestants[name]()  # warm
        rounds = bench.taking_turns("tokens", contestants)
    ours, peers = at(ONE, JUDGED), at(PEER, JUDGED)
    return Findings(
        rounds.medians(),
        {
            "tokens": rounds.ratio(ours, OPENSSL, "per_second"),
            "tokens-two-workers": rounds.ratio(at(TWO, JUDGED), OPENSSL, "per_second"),
            "token-cpu": rounds.ratio(ours, SIGN, "cpu_us"),
            "tokens-peer": rounds.ratio(ours, peers, "per_cpu_second"),
            "tokens-p99": rounds.ratio(ours, peers, "p99_ms"),
        },
    )


CASE = Case("tokens", ("tokens", "tokens-two-workers", "token-cpu", "tokens-peer", "tokens-p99"), measure)
