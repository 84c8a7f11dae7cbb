"""Shows results: tables on a terminal, tables and plots in docs/performance.md.

The same results give the same text. Run as a script, it updates the document with the results that it already shows,
after a change of the presentation. `targets` has the values that results are compared with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from plot import Axis, line_plot
from results import FOLDER, Results
from rich.table import Table
from rounds import Curve, Findings
from targets import TARGETS

DOCS = Path(__file__).resolve().parents[1] / "docs"
DOCUMENT = DOCS / "performance.md"
PLOTS = "performance-{}.svg"
COLUMNS = {
    "per_second": ("1/s", ".0f"),
    "cpu_us": ("CPU us", ".0f"),
    "per_cpu_second": ("1/CPU s", ".0f"),
    "database_cpu_us": ("PostgreSQL CPU us", ".0f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "pss_mib": ("PSS MiB", ".1f"),
    "pss_kib": ("PSS KiB", ".1f"),
    "seconds": ("s", ".2f"),
    "driver_cores": ("driver", ".2f"),
    "others_cores": ("others", ".2f"),
}
"""Metrics that have a column: its head and format."""
TARGET_HEADS = ("what", "baseline", "target", "stretch", "measured", "verdict", "by CPU")
BEGIN, END = "<!-- {} from {} -->", "<!-- end of {} -->"


def metric_rows(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table of what each contestant did; metrics that none has are left out."""
    metrics = findings.metrics
    present = [key for key in COLUMNS if any(each.get(key) for each in metrics.values())]
    rows = [
        [who, *(format(each[key], COLUMNS[key][1]) if each.get(key) else "" for key in present)]
        for who, each in metrics.items()
    ]
    return ["server", *(COLUMNS[key][0] for key in present)], rows


def target_rows(measured: Mapping[str, float | None], by_cpu: Mapping[str, float | None]) -> list[list[str]]:
    """Return the cells of each row of the targets that this run had a case for."""
    rows = []
    for target in TARGETS:
        if target.name not in measured:
            continue
        value = measured[target.name]
        shown = [target.shown(each) for each in (target.target, target.stretch, value)]
        by_cpu_time = target.shown(by_cpu.get(target.name))
        rows.append([target.what, target.baseline, *shown, target.verdict(value).value, by_cpu_time])
    return rows


def curve_rows(curve: Curve) -> tuple[list[str], list[list[str]]]:
    """Return the points of a plot as a table."""
    places = sorted({x for points in curve.series.values() for x, _ in points})
    rows = [
        [name, *(format(dict(points)[x], ".4g") for x in places)] for name, points in curve.series.items()
    ]
    return [f"{curve.y}, by {curve.x}", *(f"{x:g}" if x < 10**5 else f"{x:.0e}" for x in places)], rows


def terminal(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal: the first column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", box=None)
    for number, head in enumerate(heads):
        table.add_column(
            head, justify="right" if number and head != "verdict" else "left", no_wrap=bool(number)
        )
    for row in rows:
        table.add_row(*row)
    return table


def tables(results: Results) -> Iterator[Table]:
    """Yield every table for a terminal, that of the targets last."""
    for name, findings in results.cases.items():
        if findings.metrics:
            yield terminal(name, *metric_rows(findings))
        for curve in findings.curves.values():
            yield terminal(curve.title, *curve_rows(curve))
    yield terminal("targets", TARGET_HEADS, target_rows(results.rows, results.by_cpu))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as the documents write it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def conditions(results: Results) -> str:
    """Return under what conditions it was measured."""
    where = ", ".join(f"{name} {said}" for name, said in results.machine.items())
    with_what = ", ".join(f"{name} {said}" for name, said in results.versions.items())
    skipped = "".join(f"\n- skipped: {each}" for each in results.skipped)
    return (
        f"- begun {results.began}, {results.rounds} rounds, {results.seconds} seconds each\n"
        f"- others kept {results.others:.2f} cores busy meanwhile, on average\n"
        f"- machine: {where}\n- versions: {with_what}{skipped}"
    )


def parts(results: Results) -> dict[str, str]:
    """Return the text of each part of the document, by the name in its markers."""
    found = {
        "targets": markdown(TARGET_HEADS, target_rows(results.rows, results.by_cpu)),
        "conditions": conditions(results),
    }
    for name, findings in results.cases.items():
        if findings.metrics:
            found[name] = markdown(*metric_rows(findings))
    for name, curve in results.curves.items():
        picture = f"![{curve.title}: {curve.y} over {curve.x}]({PLOTS.format(name)})"
        found[name] = f"{picture}\n\n{markdown(*curve_rows(curve))}"
    return found


def filled(document: str, results: Results, source: str) -> str:
    """Return the document with each marked part as these results have it; missing results are marked as missing."""
    ready = parts(results)

    def part(found: "re.Match[str]") -> str:
        name = found[1]
        text = ready.get(name, "Not measured.")
        return f"{BEGIN.format(name, source)}\n\n{text}\n\n{END.format(name)}"

    return re.sub(r"<!-- ([a-z-]+) from [^ ]+ -->\n.*?<!-- end of \1 -->", part, document, flags=re.DOTALL)


def with_places(document: str, results: Results, source: str) -> str:
    """Return the document with a section at its end for each part that it has no place for yet."""
    for name in parts(results):
        if END.format(name) not in document:
            place = f"{BEGIN.format(name, source)}\n\n{END.format(name)}"
            document = f"{document.rstrip()}\n\n## {name.capitalize()}\n\n{place}\n"
    return document


def plots(results: Results) -> dict[str, str]:
    """Return each plot as SVG, by the name of its file."""
    return {PLOTS.format(name): _plot(curve) for name, curve in results.curves.items()}


def _plot(curve: Curve) -> str:
    top = 1.05 * max(y for points in curve.series.values() for _, y in points)
    y = Axis(curve.y, log=True) if curve.log_y else Axis(curve.y, low=0, high=top)
    return line_plot(curve.title, Axis(curve.x, log=curve.log_x), y, curve.series)


def publish(results: Results, source: str) -> None:
    """Let the document show these results, tables and plots."""
    document = with_places(DOCUMENT.read_text("utf-8"), results, source)
    DOCUMENT.write_text(filled(document, results, source), "utf-8")
    for name, svg in plots(results).items():
        (DOCS / name).write_text(svg, "utf-8")


def source_of(document: str) -> str:
    """Return the name of the results that a document shows."""
    (source,) = set[str](re.findall(r"<!-- [a-z-]+ from ([^ ]+) -->", document))
    return source


if __name__ == "__main__":  # after a change of how results are shown
    its = source_of(DOCUMENT.read_text("utf-8"))
    publish(Results.read((FOLDER / its).read_text("utf-8")), its)
