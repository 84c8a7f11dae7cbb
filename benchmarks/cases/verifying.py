"""Verification: `GET /me` over HTTP compared with the common recipes, and the function compared with raw RSA.

What bad days cost a verifier is measured by the script `verifier`.
"""

import asyncio
import os
from contextlib import ExitStack

import verifier as function
from load import Request, loading
from rounds import Bench, Case, Contestant, Findings, Rounds, Sample, folder_of
from servers import example, installed, issuer, jose, recipe
from support.servers import HOST
from timing import cpu_us

from jwks_verifier.testing import KeyPair

CONNECTIONS = 8
OURS, RECIPE, NODE = "example service", "FastAPI + PyJWKClient", "node + jose"
RAW, FUNCTION, PYJWT = function.NAMES
CALLS = 1000


def timed(act: function.Case) -> Contestant:
    """Return the contestant that calls a function in this process."""

    def sample() -> Sample:
        return {"cpu_us": cpu_us(act, CALLS)}

    return sample


async def verifying(bench: Bench) -> Rounds:
    """Measure the function, its keys at hand."""
    with function.serving(KeyPair()) as keys:
        ours, token = function.our_verifier(keys.url), keys.token()
        async with ours.cache:
            await ours.verify(token)
            acts = function.good(keys, ours, token)
            return bench.taking_turns("verify", {name: timed(act) for name, act in acts.items()})


def serving(bench: Bench) -> Rounds:
    """Measure `GET /me`."""
    with folder_of(bench, "verify") as folder, ExitStack() as stack:
        bench.tell("verify: starting the servers")
        installation = stack.enter_context(installed(folder / "issuer"))
        issuer(installation)
        request = Request("/me", headers={"Authorization": f"Bearer {installation.token()}"})
        theirs = stack.enter_context(recipe(folder, installation))
        turns = {
            OURS: loading(example(installation), request, CONNECTIONS, bench.seconds),
            RECIPE: loading(theirs, request, CONNECTIONS, bench.seconds),
        }
        if node := bench.unless_missing(stack, "/me beside node", jose(folder, installation)):
            turns[NODE] = loading(node, request, CONNECTIONS, bench.seconds)
        return bench.taking_turns("verify", turns)


def measure(bench: Bench) -> Findings:
    """Measure both."""
    os.environ["no_proxy"] = HOST  # PyJWKClient would ask a proxy for loopback
    called, served = asyncio.run(verifying(bench)), serving(bench)
    rows = {
        "verification": called.ratio(FUNCTION, RAW, "cpu_us"),
        "me": served.ratio(OURS, RECIPE, "per_second"),
    }
    by_cpu = {"me": served.ratio(OURS, RECIPE, "per_cpu_second")}
    return Findings({**served.medians(), **called.medians()}, rows, by_cpu)


CASE = Case("verify", ("verification", "me"), measure)
