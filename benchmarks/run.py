"""What this code adds to RSA: issuing and verifying a token beside the bare signature, in one run, as ratios.

Absolute times drift with the machine; the cases alternate, so ratios hold. Servers under load come later.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from issuer.administration import register_client
from issuer.grants.means import Origin
from issuer.oauth import AuthMethod
from issuer.settings import Settings
from issuer.wiring import Issuer, build
from verifier_example.testing import InProcessIssuer
from verifier_example.verifier import JwksCache, TokenVerifier

ROUNDS = 7
AUDIENCE = "https://service.test"


def measured(cases: dict[str, Callable[[int], None]], calls: int) -> dict[str, float]:
    """Return the median microseconds of a call in each case; each case makes so many calls a round."""
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name, run in cases.items():
            began = time.process_time()
            run(calls)
            spent[name].append((time.process_time() - began) / calls * 1e6)
        sys.stderr.write(f"\rround {number + 1} of {ROUNDS}")
    sys.stderr.write("\n")
    return {name: statistics.median(times) for name, times in spent.items()}


def issuing(issuer: Issuer) -> dict[str, Callable[[int], None]]:
    """Return the cases of issuing: the signature alone, and a whole client_credentials request below HTTP."""
    now = issuer.clock()
    client, secret = register_client(
        issuer.clients, "bench", AuthMethod.POST, frozenset({"items:read"}), (), now
    )
    form = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": secret or ""}
    kid = issuer.node.view.ring.current(now).kid

    def sign(calls: int) -> None:
        for _ in range(calls):
            issuer.signer.sign(kid, b"x" * 400)

    def token(calls: int) -> None:
        for _ in range(calls):
            issuer.grants.pipeline.token(form, (), None, Origin(), issuer.clock())

    return {"RS256 signature alone": sign, "client_credentials, client looked up": token}


async def verifying() -> dict[str, float]:
    """Measure verifying: the signature alone, this project's verifier, and PyJWT as commonly used."""
    issuer = InProcessIssuer("https://issuer.test")
    token = issuer.make_token(aud=AUDIENCE)
    public = issuer.keys[-1].private.public_key()
    signed, _, encoded = token.rpartition(".")
    data, signature = signed.encode(), jwt.utils.base64url_decode(encoded)
    keys = jwt.PyJWKSet([key.jwk for key in issuer.keys])

    def verify(calls: int) -> None:
        for _ in range(calls):
            public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())

    def usual(calls: int) -> None:
        for _ in range(calls):
            key = keys[jwt.get_unverified_header(token)["kid"]]
            jwt.decode(token, key, ["RS256"], audience=AUDIENCE, issuer=issuer.url)

    async with JwksCache(issuer.url, transport=issuer.transport) as cache:
        verifier = TokenVerifier(cache, AUDIENCE)
        await verifier.verify(token)

        def ours(calls: int) -> None:
            for _ in range(calls):
                try:  # a warm verification never waits: its coroutine ends at the first step
                    verifier.verify(token).send(None)
                except StopIteration:
                    continue
                raise AssertionError("a warm verification waited")

        return measured({"RS256 verification alone": verify, "verifier.py": ours, "PyJWT": usual}, 1000)


def show(title: str, times: dict[str, float]) -> None:
    """Print each case with its ratio to the first."""
    table = Table(title=title, title_justify="left", box=None)
    for name in ("case", "us", "ratio"):
        table.add_column(name, justify="left" if name == "case" else "right")
    limit = next(iter(times.values()))
    for name, microseconds in times.items():
        table.add_row(name, f"{microseconds:.0f}", f"{microseconds / limit:.2f}")
    Console().print(table)


def main() -> None:
    """Run both."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database_url=SecretStr(f"sqlite:///{folder}/issuer.db"), keys=str(Path(folder) / "keys")
        )
        issuer = build(settings)
        issuer.node.refresh()
        show("issuing, CPU per token", measured(issuing(issuer), 200))
        issuer.close()
    show("verifying, CPU per token", asyncio.run(verifying()))


if __name__ == "__main__":
    main()
