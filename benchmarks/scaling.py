"""The load of a million verifiers on a CDN and on the origin: `python benchmarks/scaling.py [--write]`.

The model is in `fleet`. This file chooses the cases, prints the results, and with `--write` puts tables and plots
into `docs/`. The same seed gives the same numbers; a test compares them with the document.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from fleet import EXAMPLE, RECIPE, Case, Cdn, Fleet, Outcome  # noqa: E402
from plot import Axis, line_plot, write  # noqa: E402

DOCS = HERE.parent / "docs"
DOCUMENT = DOCS / "scaling.md"
VERIFIERS, SCALE, SEED = 1_000_000, 25, 1
MAX_AGE = 300
THROUGH, ALL_MISSES, SHORT_EDGE = Cdn(), Cdn(coalescing=False), Cdn(edge_ttl=30)
WAYS = {RECIPE: "fetch on expiry", EXAMPLE: "the example"}
OUTAGE = range(600, 1200)
REVOKED = 600

Cells = Sequence[str]


@dataclass(frozen=True)
class Section:
    """One table of the document, and perhaps a plot."""

    name: str
    head: Cells
    rows: Sequence[Cells]
    plot: str | None = None

    def markdown(self) -> str:
        """Return the table as Markdown, numbers to the right."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.head, rule, *self.rows))

    def show(self) -> None:
        """Print the table."""
        table = Table(title=self.name, title_justify="left", box=None)
        for number, name in enumerate(self.head):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        Console().print(table)


@dataclass(frozen=True)
class Scale:
    """How many verifiers there are, one in how many is simulated, and by which seed."""

    verifiers: int = VERIFIERS
    one_in: int = SCALE
    seed: int = SEED

    def run(self, case: Case) -> Outcome:
        """Simulate a case."""
        return Fleet(case, self.verifiers, self.one_in, self.seed).run()


def steady(scale: Scale) -> Section:
    """Return the rates of a fleet in the midst of its work, by max-age."""
    rows = []
    for max_age, name in ((30, "30 s"), (300, "5 min"), (3600, "1 h")):
        cells = [name]
        for cdn in (None, THROUGH, SHORT_EDGE):
            warm = max(max_age, 120)
            case = Case(cdn=cdn, max_age=max_age, seconds=2 * warm)
            outcome = scale.run(case)
            edge, origin = (sum(each[warm:]) / warm for each in (outcome.edge, outcome.origin))
            cells += [rate(origin)] if cdn is None else [rate(edge), hits(edge, origin), rate(origin)]
        rows.append(cells)
    head = ["max-age", "origin alone", "CDN", "hits", "origin", "30 s at the edge", "hits", "origin"]
    return Section("steady", head, rows)


def herd(scale: Scale) -> Section:
    """Return what a deploy that starts all in the same second leads to."""
    rows, lines = [], {}
    ways = [(way, cdn) for way in WAYS for cdn in (None, ALL_MISSES, THROUGH)]
    for way, cdn in [*ways, (EXAMPLE, SHORT_EDGE)]:
        outcome = scale.run(Case(way, cdn, MAX_AGE, 1800, together=True))
        later = slice(1200, None)
        peaks = [max(outcome.edge[1:]), max(outcome.origin[1:]), max(outcome.edge[later])]
        rows.append([f"{WAYS[way]}, {path(cdn)}", *map(count, [*peaks, max(outcome.origin[later])])])
        if (way, cdn) in {(RECIPE, None), (EXAMPLE, None), (EXAMPLE, THROUGH)}:
            lines[f"{WAYS[way]}, {path(cdn)}"] = peaks_by(5, outcome.edge)
    head = ["way", "requests", "at the origin", "requests, after 20 min", "at the origin"]
    title = "All started in the same second: requests of verifiers"
    y = Axis("per second, the busiest of five", log=True, low=100, high=1_000_000)
    return Section("herd", head, rows, line_plot(title, Axis("minutes after the start"), y, lines))


def outage(scale: Scale) -> Section:
    """Return what an origin that is away for ten minutes sees when it comes back."""
    rows, lines = [], {}
    for way, cdn in ((way, cdn) for way in WAYS for cdn in (None, ALL_MISSES, THROUGH)):
        outcome = scale.run(Case(way, cdn, MAX_AGE, OUTAGE.stop + 180, outage=OUTAGE))
        during, after = slice(OUTAGE.start, OUTAGE.stop), slice(OUTAGE.stop, None)
        peaks = [max(each[span]) for span in (during, after) for each in (outcome.edge, outcome.origin)]
        well = [f"{outcome.fresh_after[int(part * len(outcome.fresh_after)) - 1]} s" for part in (0.5, 1)]
        rows.append([f"{WAYS[way]}, {path(cdn)}", *map(count, peaks), *well])
        if cdn is not ALL_MISSES:
            lines[f"{WAYS[way]}, {path(cdn)}"] = peaks_by(5, outcome.origin[OUTAGE.start - 120 :], begin=-2)
    head = [
        "way",
        "requests, during",
        "at the origin",
        "requests, after",
        "at the origin",
        "half fresh",
        "all fresh",
    ]
    title = "The origin is away for ten minutes: requests that reach it"
    y = Axis("per second, the busiest of five", log=True, low=1, high=1_000_000)
    return Section("outage", head, rows, line_plot(title, Axis("minutes after it went"), y, lines))


def revocation(scale: Scale) -> Section:
    """Return how a fleet learns that a key was revoked, and what that costs."""
    base = Case(max_age=MAX_AGE, seconds=REVOKED + MAX_AGE + 120, revoked_at=REVOKED)
    purged = replace(base, purged_at=REVOKED + 5)
    cases = {
        "known, origin alone": replace(base, cdn=None),
        "known, CDN": base,
        "known, CDN, 30 s at the edge": replace(base, cdn=SHORT_EDGE),
        "known, CDN, purged after 5 s": purged,
        "unknown, origin alone": replace(base, cdn=None, announced=False),
        "unknown, CDN": replace(base, announced=False),
        "unknown, CDN, 30 s at the edge": replace(base, cdn=SHORT_EDGE, announced=False),
        "unknown, CDN, purged after 5 s": replace(purged, announced=False),
    }
    rows, lines = [], {}
    for name, case in cases.items():
        outcome = scale.run(case)
        edge, origin = outcome.edge[REVOKED:], outcome.origin[REVOKED:]
        numbers = [sum(edge[:10]), sum(edge[:MAX_AGE]), max(edge), max(origin)]
        known = outcome.known_after
        shares = [f"{known[max(0, int(part * len(known)) - 1)]} s" for part in (0.5, 0.99, 1)]
        rows.append([name, *map(count, numbers), *shares])
        if "origin" not in name:
            lines[name] = [(known[int(part * (len(known) - 1) / 100)], part) for part in range(101)]
    head = ["next key, way", "in 10 s", "in 5 min", "peak", "at the origin", "50 %", "99 %", "100 %"]
    title = "A key is revoked: verifiers that know"
    x, y = Axis("seconds after the revocation", low=0, high=360), Axis("per cent", low=0, high=100)
    return Section("revocation", head, rows, line_plot(title, x, y, lines))


def sections(scale: Scale) -> list[Section]:
    """Return all of it."""
    return [part(scale) for part in (steady, herd, outage, revocation)]


def path(cdn: Cdn | None) -> str:
    """Name the way to the origin."""
    if cdn is None:
        return "origin alone"
    edge = f", {cdn.edge_ttl} s at the edge" if cdn.edge_ttl else ""
    return f"CDN{edge}" if cdn.coalescing else "CDN without coalescing"


def count(number: float) -> str:
    """Write a number to three significant digits, in groups of three."""
    return f"{round(float(f'{number:.3g}')):,}".replace(",", " ")


def rate(number: float) -> str:
    """Write a rate: small ones with the decimals that matter."""
    return count(number) if number >= 100 else f"{number:.2g}"  # noqa: PLR2004 - three significant digits


def hits(edge: float, origin: float) -> str:
    """Write the share of requests that an edge answered by itself."""
    return f"{100 * (1 - origin / edge):.3f} %"


def peaks_by(seconds: int, rates: Sequence[float], begin: float = 0) -> list[tuple[float, float]]:
    """Return the busiest second of each stretch, over minutes."""
    starts = range(0, len(rates) - seconds + 1, seconds)
    return [(begin + start / 60, max(rates[start : start + seconds])) for start in starts]


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Return the document with each table between its markers; KeyError for one that has no place."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise KeyError(name)
        text = f"{before}{begin}{table}\n{end}{after}"
    return text


def written(found: Iterable[Section]) -> dict[Path, str]:
    """Return the files that hold these sections, as they should be."""
    found = list(found)
    tables = {section.name: section.markdown() for section in found}
    plots = {DOCS / f"scaling-{section.name}.svg": section.plot for section in found if section.plot}
    return {DOCUMENT: with_tables(DOCUMENT.read_text("utf-8"), tables), **plots}


def main(
    *,
    verifiers: Annotated[int, typer.Option(min=10_000, help="How many verifiers there are.")] = VERIFIERS,
    one_in: Annotated[int, typer.Option(min=1, max=200, help="One in how many is simulated.")] = SCALE,
    seed: Annotated[int, typer.Option(help="Of the random choices.")] = SEED,
    put: Annotated[bool, typer.Option("--write", help="Put tables and plots into docs/.")] = False,
) -> None:
    """Simulate all cases, print them, and perhaps write them down."""
    found = sections(Scale(verifiers, one_in, seed))
    for section in found:
        section.show()
    if put:
        for file, content in written(found).items():
            write(file, content)


if __name__ == "__main__":
    typer.run(main)
