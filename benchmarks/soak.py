"""The soak for as long as asked: `python benchmarks/soak.py --minutes 10 [--seed N]`; exit 1 if a promise broke.

What it does and judges is told in `tests/soak`.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))  # before this folder, where a file is called soak, too

from postgresql import temporary_server  # noqa: E402
from running import HOST  # noqa: E402
from soak.findings import Findings  # noqa: E402
from soak.rules import Rules  # noqa: E402
from soak.run import soak  # noqa: E402


def progress(findings: Findings) -> None:
    """Rewrite the line that tells how far it is."""
    counts = findings.counts
    verified = sum(count for what, count in counts.items() if what.startswith("verified: "))
    sys.stderr.write(
        f"\r{findings.age:4.0f} s  issued {counts['tokens issued']}  verified {verified}"
        f"  rotations {findings.rotations}  BROKEN {len(findings.broken)} "
    )
    sys.stderr.flush()


def show(rules: Rules, seed: int, findings: Findings) -> None:
    """Print what was found, and each broken promise with its facts."""
    sys.stderr.write("\n")
    table = Table(title=f"seed {seed}: {rules}", title_justify="left", box=None)
    table.add_column("what")
    table.add_column("how often", justify="right")
    for what, count in sorted({**findings.counts, "rotations seen in tokens": findings.rotations}.items()):
        table.add_row(what, str(count))
    console = Console()
    console.print(table)
    for told in findings.broken:
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="The soak, for as long as asked.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked = parser.parse_args()
    os.environ["no_proxy"] = HOST  # PyJWKClient would ask a proxy for loopback
    with tempfile.TemporaryDirectory() as folder:
        try:
            with temporary_server(Path(folder)) as postgresql:
                findings = soak(Path(folder) / "soak", postgresql, asked.minutes * 60, asked.seed, progress)
        except pytest.skip.Exception as missing:
            sys.stderr.write(f"{missing}\n")
            return 1
    show(Rules.drawn(asked.seed), asked.seed, findings)
    return 1 if findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
