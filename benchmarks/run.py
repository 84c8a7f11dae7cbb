"""What this code adds to RSA: issuing a token beside the bare signature, in one run, as ratios.

Absolute times drift with the machine; the cases alternate, so ratios hold. Verifying is measured in `verifier`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from issuer.administration import register_client
from issuer.grants.means import Origin
from issuer.oauth import AuthMethod
from issuer.settings import Settings
from issuer.wiring import Issuer, build

ROUNDS = 7


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
    """Run it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database_url=SecretStr(f"sqlite:///{folder}/issuer.db"), keys=str(Path(folder) / "keys")
        )
        issuer = build(settings)
        issuer.node.refresh()
        show("issuing, CPU per token", measured(issuing(issuer), 200))
        issuer.close()


if __name__ == "__main__":
    main()
