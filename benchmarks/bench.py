"""The benchmarks: `python benchmarks/bench.py [--full] [--only NAME]…`, as `make bench` and `make bench-full` run it.

What each measures is told in `cases`, how in `rounds`, what is to be reached in `targets`.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from cases import tokens
from report import figures_table, targets_table
from rich.console import Console
from rounds import Bench, Findings
from servers import Missing

CASES = (tokens.CASE,)
ROUNDS, FULL_ROUNDS = 5, 7
SECONDS, FULL_SECONDS = 2, 3


class Progress:
    """Rewrites one line on standard error; a line for each case where that is no terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._case = ""

    def __call__(self, what: str) -> None:
        """Tell what is being done."""
        told = f"{time.monotonic() - self._began:4.0f} s  {what}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{told[:100]}")
        elif (case := what.partition(":")[0]) != self._case:
            self._case = case
            sys.stderr.write(f"{told}\n")
        sys.stderr.flush()


def run(bench: Bench, only: list[str]) -> dict[str, Findings]:
    """Measure each case that was asked for; what is missing for one is noted."""
    found = {}
    for case in CASES:
        if case.name not in only if only else case.full_only and not bench.full:
            continue
        try:
            found[case.name] = case.measure(bench)
        except Missing as why:
            bench.skip(case.name, why)
    return found


def main(
    *,
    full: Annotated[bool, typer.Option("--full", help="Measure longer, and how cost grows.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Measure this case alone; may be repeated.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each has its turn.")] = None,
) -> None:
    """Measure, and print each figure beside its target."""
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(
            Path(folder),
            rounds or (FULL_ROUNDS if full else ROUNDS),
            FULL_SECONDS if full else SECONDS,
            full,
            progress,
        )
        found = run(bench, only or [])
    sys.stderr.write("\n")
    console = Console()
    for name, findings in found.items():
        console.print(figures_table(name, findings))
    console.print(
        targets_table({row: figure for each in found.values() for row, figure in each.rows.items()})
    )
    for skipped in bench.skipped:
        console.print(f"SKIPPED {skipped}", style="bold red", markup=False)


if __name__ == "__main__":
    typer.run(main)
