"""CPU time of functions that run alternately in this process, as ratios to the first one.

`load` measures servers.
"""

import statistics
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

ROUNDS = 7


def cpu_us(act: Callable[[int], object], calls: int) -> float:
    """Return the microseconds of this process's CPU for each of so many calls."""
    began = time.process_time()
    act(calls)
    return (time.process_time() - began) / calls * 1e6


def measured(cases: dict[str, Callable[[int], None]], calls: int) -> dict[str, float]:
    """Return the median microseconds of a call in each case; each case makes so many calls a round."""
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name, act in cases.items():
            spent[name].append(cpu_us(act, calls))
        sys.stderr.write(f"\rround {number + 1} of {ROUNDS}")
    sys.stderr.write("\n")
    return {name: statistics.median(times) for name, times in spent.items()}


def show(title: str, times: dict[str, float]) -> None:
    """Print each case with its ratio to the first."""
    table = Table(title=title, title_justify="left", box=None)
    for name in ("case", "us", "ratio"):
        table.add_column(name, justify="left" if name == "case" else "right")
    limit = next(iter(times.values()))
    for name, microseconds in times.items():
        table.add_row(name, f"{microseconds:.0f}", f"{microseconds / limit:.2f}")
    Console().print(table)
