"""The soak test for some minutes: `python benchmarks/soak.py --minutes 10 [--seed N]`; exit 1 if a promise is broken.

`tests/soak` has what it does and checks.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # before this folder, where a file is called soak, too

from soak.faults import Fault  # noqa: E402
from soak.findings import Findings  # noqa: E402
from soak.rules import Rules  # noqa: E402
from soak.run import soak  # noqa: E402
from support.replication import temporary_pair  # noqa: E402
from support.servers import HOST  # noqa: E402

FAULTS = {
    "kills": (Fault.KILL, Fault.KILL_WORKER),
    "stops": (Fault.STOP, Fault.STOP_WORKER),
    "partitions": (Fault.CUT, Fault.SILENCE),
    "failovers": (Fault.FAILOVER,),
}
WIDTH = 118
REFUSED = "BROKEN: a valid token was refused by "


def progress(findings: Findings) -> None:
    """Rewrite the progress line."""
    counts = findings.counts
    verified = sum(count for what, count in counts.items() if what.startswith("verified: "))
    faults = sum(counts[fault] for fault in Fault)
    sys.stderr.write(
        f"\r{findings.age:4.0f} s  issued {counts['tokens issued']}  verified {verified}"
        f"  rotations {findings.rotations}  faults {faults}  BROKEN {len(findings.broken)} "
    )
    sys.stderr.flush()


def report(findings: Findings) -> Iterator[tuple[str, str]]:
    """Yield the lines of the report: the summary first, then all counts."""
    counts = findings.counts
    refused = {what: count for what, count in counts.items() if what.startswith(REFUSED)}
    yield "tokens issued", f"{counts['tokens issued']}"
    for what in sorted(what for what in counts if what.startswith("verified: ")):
        yield what, f"{counts[what]}"
    yield "valid tokens refused", f"{sum(refused.values())}"
    for reason, count in sorted(findings.refusals.items()):
        yield f"refused: {reason}", f"{count}"
    yield "rotations seen in tokens", f"{findings.rotations}"
    for name, kinds in FAULTS.items():
        each = ", ".join(f"{kind} {counts[kind]}" for kind in kinds)
        yield name, f"{sum(counts[kind] for kind in kinds)}" + (f" ({each})" if len(kinds) > 1 else "")
    yield "longest pause without a token", f"{findings.pauses.get('tokens issued', 0.0):.1f} s"
    for node, seconds in sorted(findings.recoveries.items()):
        summary = f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s"
        yield f"token from {node} after a promotion", summary
    reported = {"tokens issued", *Fault, *refused}
    for what, count in sorted(counts.items()):
        if what not in reported and not what.startswith("verified: "):
            yield what, f"{count}"


def show(rules: Rules, seed: int, findings: Findings) -> None:
    """Print the report, and each broken promise with its facts."""
    sys.stderr.write("\n")
    table = Table(title=f"seed {seed}: {rules}", title_justify="left", box=None)
    table.add_column("what", no_wrap=True)
    table.add_column(f"in {findings.age:.0f} s")
    for line in report(findings):
        table.add_row(*line)
    console = Console(width=WIDTH)
    console.print(table)
    for broken in findings.broken:
        console.print(broken, markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    """Run the soak test and print its report."""
    parser = argparse.ArgumentParser(description="Run the soak test.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked = parser.parse_args()
    os.environ["no_proxy"] = HOST  # PyJWKClient would ask a proxy for loopback
    with tempfile.TemporaryDirectory() as folder:
        try:
            with temporary_pair() as pair:
                findings = soak(Path(folder) / "soak", pair, asked.minutes * 60, asked.seed, progress)
        except pytest.skip.Exception as missing:
            sys.stderr.write(f"{missing}\n")
            return 1
    show(Rules.random(asked.seed), asked.seed, findings)
    return 1 if findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
