"""Requests for the JWKS, full (200) and conditional (304), compared with nginx and oidc-provider."""

from contextlib import ExitStack

import httpx2
from load import Request, loading
from rounds import Bench, Case, Contestant, Findings, folder_of
from servers import Running, installed, issuer, nginx, provider

CONNECTIONS = 8
OURS, LIMIT, PEER = "issuer", "nginx, the same bytes as a file", "oidc-provider"
PATHS = {OURS: "/.well-known/jwks.json", LIMIT: "/jwks.json", PEER: "/jwks"}


def asking(who: str, server: Running, seconds: int) -> dict[str, Contestant]:
    """Return the contestants: 200, and 304 where there is an ETag."""
    answer = httpx2.get(server.url + PATHS[who], trust_env=False).raise_for_status()
    turns = {f"{who}, 200": loading(server, Request(PATHS[who]), CONNECTIONS, seconds)}
    if etag := answer.headers.get("etag"):
        unchanged = Request(PATHS[who], headers={"If-None-Match": etag})
        turns[f"{who}, 304"] = loading(server, unchanged, CONNECTIONS, seconds)
    return turns


def measure(bench: Bench) -> Findings:
    """Measure it."""
    with folder_of(bench, "jwks") as folder, ExitStack() as stack:
        bench.tell("jwks: starting the servers")
        installation = stack.enter_context(installed(folder / "issuer"))
        ours = issuer(installation)
        turns = asking(OURS, ours, bench.seconds)
        body = installation.key_set().content
        if limit := bench.unless_missing(stack, "JWKS beside its limit", nginx(folder, body)):
            turns |= asking(LIMIT, limit, bench.seconds)
        theirs = provider(folder, ("unused", "unused-secret"), installation.service_url)
        if peer := bench.unless_missing(stack, "JWKS beside a peer", theirs):
            turns |= asking(PEER, peer, bench.seconds)
        rounds = bench.taking_turns("jwks", turns)
    return Findings(
        rounds.medians(), {"jwks": rounds.ratio(f"{OURS}, 200", f"{LIMIT}, 200", "per_cpu_second")}
    )


CASE = Case("jwks", ("jwks",), measure)
