"""The simulation behind docs/scaling.md: it agrees with what can be calculated, and the document with it."""

import math
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from fleet import EXAMPLE, RECIPE, Case, Cdn, Fleet, Outcome  # noqa: E402
from plot import Axis, line_plot  # noqa: E402
from scaling import DOCUMENT, Scale, sections, with_tables, written  # noqa: E402

VERIFIERS = 100_000
EDGES = Cdn(points=20)


def simulated(case: Case, seed: int = 1) -> Outcome:
    return Fleet(case, VERIFIERS, scale=10, seed=seed).run()


def mean(rates: list[float], begin: int) -> float:
    return sum(rates[begin:]) / len(rates[begin:])


@pytest.mark.parametrize("max_age", [30, 300, 1200])
def test_without_a_cdn_the_rate_is_that_of_the_formula(max_age: int) -> None:
    ttl = max(max_age, EXAMPLE.floor)
    low, high = EXAMPLE.refresh_from, EXAMPLE.refresh_to
    expected = VERIFIERS * math.log(high / low) / (high - low) / ttl
    outcome = simulated(Case(cdn=None, max_age=max_age, seconds=int(4 * ttl)))
    assert mean(outcome.edge, int(2 * ttl)) == pytest.approx(expected, rel=0.03)
    assert outcome.origin == outcome.edge


@pytest.mark.parametrize(("edge_ttl", "lasts"), [(None, 300), (30, 30)])
def test_behind_a_cdn_the_origin_sees_each_edge_once_a_life_of_its_copy(
    edge_ttl: float | None, lasts: int
) -> None:
    outcome = simulated(Case(cdn=Cdn(points=20, edge_ttl=edge_ttl), seconds=1200))
    assert mean(outcome.origin, 600) == pytest.approx(20 / lasts, rel=0.05)


def test_with_age_verifiers_fetch_more_often_unless_the_edge_time_is_short() -> None:
    alone, through, short = (
        mean(simulated(Case(cdn=cdn, seconds=1200)).edge, 600)
        for cdn in (None, EDGES, Cdn(points=20, edge_ttl=30))
    )
    assert through > 1.8 * alone
    assert short < 1.1 * alone


def test_without_jitter_a_start_of_all_in_one_second_repeats_and_with_it_does_not() -> None:
    herd, spread = (
        max(simulated(Case(way, None, seconds=1800, together=True)).origin[1200:])
        for way in (RECIPE, EXAMPLE)
    )
    assert herd == VERIFIERS
    assert spread < VERIFIERS / 50


def test_verifiers_pause_in_an_outage_and_are_fresh_a_minute_after_it() -> None:
    outage = range(400, 1000)
    outcome = simulated(Case(cdn=EDGES, seconds=1100, outage=outage))
    assert len(outcome.fresh_after) == VERIFIERS / 10
    assert outcome.fresh_after[-1] <= EXAMPLE.backoff_last
    assert max(outcome.edge[900:1100]) < VERIFIERS / 30


@pytest.mark.parametrize("announced", [True, False])
def test_every_verifier_has_a_revocation_within_max_age_and_the_floor(*, announced: bool) -> None:
    case = Case(cdn=EDGES, seconds=1100, revoked_at=700, announced=announced)
    known = simulated(case).known_after
    assert len(known) == VERIFIERS / 10
    assert known[-1] <= case.max_age + EXAMPLE.refresh_to * EXAMPLE.floor + 1


def test_an_unknown_kid_causes_one_fetch_a_cooldown_until_the_edge_has_it() -> None:
    case = Case(cdn=EDGES, seconds=1000, revoked_at=600, announced=False)
    outcome = simulated(case)
    assert sum(outcome.edge[600:610]) == pytest.approx(VERIFIERS, rel=0.01)
    assert max(outcome.origin[600:]) <= 20


def test_the_same_seed_gives_the_same_and_another_one_something_else() -> None:
    case = Case(cdn=EDGES, seconds=400)
    assert simulated(case) == simulated(case)
    assert simulated(case) != simulated(case, seed=2)


def test_the_document_and_its_plots_match_the_simulation() -> None:
    for file, content in written(sections(Scale())).items():
        assert file.read_text("utf-8") == content, f"run: python benchmarks/scaling.py --write ({file.name})"


def test_every_table_of_the_document_is_filled() -> None:
    text = DOCUMENT.read_text("utf-8")
    names = re.findall(r"<!-- end of (\w+) -->", text)
    for name in names:
        table = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]
        lines = table.splitlines()
        assert len(lines) > 3, name
        assert all(line.startswith("| ") for line in lines), name
    with pytest.raises(KeyError):
        with_tables(text, {"no such table": ""})


@pytest.mark.parametrize("log", [True, False])
def test_a_plot_is_wellformed_and_stays_within_its_frame_whatever_it_is_given(*, log: bool) -> None:
    series = {"some <thing>": [(0, 0), (1, 5), (2, 1000)], "nothing": [], "flat": [(0, 1), (1, 1), (2, 1)]}
    svg = line_plot("a & b", Axis("x"), Axis("y", log=log), series)
    root = ET.fromstring(svg)  # noqa: S314 - our own
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        pairs = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert all(0 <= x <= 760 and 0 <= y <= 400 for x, y in pairs)
    assert svg == line_plot("a & b", Axis("x"), Axis("y", log=log), series)


def test_a_plot_of_nothing_is_a_plot() -> None:
    ET.fromstring(line_plot("empty", Axis("x"), Axis("y", log=True), {}))  # noqa: S314 - our own
