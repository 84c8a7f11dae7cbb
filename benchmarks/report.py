"""Owns how figures are shown: tables on a terminal.

What they mean is told in `targets`.
"""

from collections.abc import Mapping

from rich.table import Table
from rounds import Findings
from targets import TARGETS

COLUMNS = {
    "per_second": ("1/s", ".0f"),
    "cpu_us": ("CPU us", ".0f"),
    "per_cpu_second": ("1/CPU s", ".0f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "driver_cores": ("driver", ".2f"),
}
"""Figures that have a column: its head, and how they are written."""


def figures_table(name: str, findings: Findings) -> Table:
    """Show the figures of each contestant of a case."""
    present = [key for key in COLUMNS if any(key in figures for figures in findings.figures.values())]
    table = Table(title=name, title_justify="left", box=None)
    table.add_column("who")
    for key in present:
        table.add_column(COLUMNS[key][0], justify="right")
    for who, figures in findings.figures.items():
        cells = (format(figures[key], COLUMNS[key][1]) if key in figures else "" for key in present)
        table.add_row(who, *cells)
    return table


def targets_table(rows: Mapping[str, float | None]) -> Table:
    """Show each row of the targets with what was measured."""
    table = Table(title="targets", title_justify="left", box=None)
    for head in ("what", "usual", "reach", "aim", "now", ""):
        table.add_column(head, justify="left" if head in {"what", ""} else "right")
    for target in TARGETS:
        figure = rows.get(target.name)
        shown = [target.shown(each) for each in (target.reach, target.aim, figure)]
        table.add_row(target.what, target.usual, *shown, target.verdict(figure).value)
    return table
