"""The benchmarks: `python benchmarks/bench.py [--full] [--only NAME]…`, as `make bench` and `make bench-full` run it.

`cases` has what is measured, `rounds` the method, `targets` the values to meet.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cases import footprint, growing, keyset, listening, logins, refreshing, signing_in, tokens, verifying
from report import publish, tables
from results import FOLDER, LATEST, QUIET, Results
from rich.console import Console
from rounds import Bench, Findings
from servers import Missing, keep_to_few_cores

CASES = (
    tokens.CASE,
    refreshing.CASE,
    signing_in.CASE,
    keyset.CASE,
    logins.CASE,
    verifying.CASE,
    footprint.CASE,
    listening.CASE,
    growing.CASE,
)
ROUNDS, FULL_ROUNDS = 5, 7
SECONDS, FULL_SECONDS = 2, 3
PAGE = 118


class Progress:
    """Rewrites one line on standard error; where that is no terminal, writes one for each round."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._round = ""

    def __call__(self, what: str) -> None:
        """Tell what is being done."""
        text = f"{time.monotonic() - self._began:4.0f} s  {what}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text[:100]}")
        elif (now := what.partition(":")[0]) != self._round:
            self._round = now
            sys.stderr.write(f"{text}\n")
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
    largest: Annotated[int, typer.Option(min=100, help="Rows at most, where growth is measured.")] = 10**6,
    write: Annotated[bool, typer.Option("--write", help="Show the results in docs/performance.md.")] = False,
) -> None:
    """Measure, print each result with its target, and store all of it in benchmarks/results."""
    unknown = {*(only or [])} - {case.name for case in CASES}
    if unknown:
        raise typer.BadParameter(f"the cases are {', '.join(case.name for case in CASES)}")
    keep_to_few_cores()
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(
            folder=Path(folder),
            rounds=rounds or (FULL_ROUNDS if full else ROUNDS),
            seconds=FULL_SECONDS if full else SECONDS,
            full=full,
            largest=largest,
            tell=Progress(),
        )
        results = Results.of(bench, began, run(bench, only or []))
    sys.stderr.write("\n")
    console = Console(width=None if sys.stdout.isatty() else PAGE)
    for table in tables(results):
        console.print(table)
    for skipped in bench.skipped:
        console.print(f"SKIPPED {skipped}", style="bold red", markup=False)
    if results.others > QUIET:
        text = (
            f"NOT QUIET others kept {results.others:.1f} cores busy: believe CPU, not rates and milliseconds"
        )
        console.print(text, style="bold red")
    LATEST.write_text(results.written(), "utf-8")
    if write:
        kept = FOLDER / f"{results.began[:10]}.json"
        kept.write_text(results.written(), "utf-8")
        publish(Results.read(results.written()), kept.name)  # what is kept, to the last digit


if __name__ == "__main__":
    typer.run(main)
