"""Line plots as SVG: named series on linear or logarithmic axes, readable on a light and on a dark page.

The same data give the same text, so that a test can compare it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET  # only ever written here

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 98, 18, 46, 56
LINE_HEIGHT, SWATCH, LETTER = 20, 22, 7.4
"""Of the legend, in pixels; a letter is taken as so wide."""
COLOURS = ("#2f7ed8", "#e07b00", "#2a9d5c", "#c2418f", "#8a6fd1", "#a08000")
"""Each has a contrast of 3 at least on white and on a dark page; each series has its own dashes, too."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "4 2")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:15px}"
    ".grid{stroke:#999;stroke-opacity:.3}.frame{fill:none;stroke:#888}.line{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


@dataclass(frozen=True)
class Axis:
    """What is along one side of the plot; without bounds it holds just the data."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None


class Point(NamedTuple):
    """One point of a series; on a logarithmic axis what is below its low end is drawn on it."""

    x: float
    y: float


class _Scale:
    """From the values of an axis to pixels."""

    def __init__(self, axis: Axis, values: Sequence[float], begin: float, end: float) -> None:
        shown = [value for value in values if value > 0] if axis.log else values
        self.log = axis.log
        self.low = axis.low if axis.low is not None else min(shown, default=1 if axis.log else 0)
        self.high = axis.high if axis.high is not None else max(shown, default=1)
        if self.high <= self.low:
            self.high = self.low * 10 if axis.log else self.low + 1
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        share = (
            math.log(value / self.low) / math.log(self.high / self.low)
            if self.log
            else (value - self.low) / (self.high - self.low)
        )
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Return round values, about half a dozen."""
        if self.log:
            decades = range(
                math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1
            )
            return [10.0**decade for decade in decades]
        raw = (self.high - self.low) / 6
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_plot(title: str, x: Axis, y: Axis, series: Mapping[str, Iterable[tuple[float, float]]]) -> str:
    """Return an SVG document that shows each of the named series of (x, y)."""
    points = {name: [Point(*point) for point in line] for name, line in series.items()}
    every = [point for line in points.values() for point in line]
    across = _Scale(x, [point.x for point in every], LEFT, WIDTH - RIGHT)
    up = _Scale(y, [point.y for point in every], HEIGHT - BOTTOM, TOP + _legend_height(points))
    size = {"width": str(WIDTH), "height": str(HEIGHT), "viewBox": f"0 0 {WIDTH} {HEIGHT}"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "style").text = STYLE
    _text(root, LEFT, 22, title, "title")
    _axes(root, x, y, across, up)
    for number, (name, line) in enumerate(points.items()):
        _line(root, name, [(across(point.x), up(point.y)) for point in line], number)
    _legend(root, points)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def write(path: Path, svg: str) -> None:
    """Write a plot."""
    path.write_text(svg, "utf-8")


def _axes(root: ET.Element, x: Axis, y: Axis, across: _Scale, up: _Scale) -> None:
    top, bottom = up(up.high), up(up.low)
    for tick in across.ticks():
        _element(root, "line", "grid", x1=across(tick), x2=across(tick), y1=top, y2=bottom)
        _text(root, across(tick), bottom + 18, _shown(tick), anchor="middle")
    for tick in up.ticks():
        _element(root, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=up(tick), y2=up(tick))
        _text(root, LEFT - 8, up(tick) + 4, _shown(tick), anchor="end")
    _element(root, "rect", "frame", x=LEFT, y=top, width=WIDTH - RIGHT - LEFT, height=bottom - top)
    _text(root, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x.label, anchor="middle")
    middle = (top + bottom) / 2
    turned = _text(root, 18, middle, y.label, anchor="middle")
    turned.set("transform", f"rotate(-90 18 {_number(middle)})")


def _line(root: ET.Element, name: str, points: list[tuple[float, float]], number: int) -> None:
    written = " ".join(f"{_number(x)},{_number(y)}" for x, y in _without_middles(points))
    line = ET.SubElement(root, "polyline", {"class": "line", "points": written, **_stroke(number)})
    ET.SubElement(line, "title").text = name


def _without_middles(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out what lies within a stretch of the same height: it shows nothing."""
    kept = []
    for index, point in enumerate(points):
        inside = 0 < index < len(points) - 1 and points[index - 1][1] == point[1] == points[index + 1][1]
        if not inside:
            kept.append(point)
    return kept


def _places(names: Iterable[str]) -> list[tuple[float, int]]:
    """Return where each name of the legend begins, and in which line."""
    places, begin, line = [], float(LEFT), 0
    for name in names:
        width = SWATCH + 8 + len(name) * LETTER + 16
        if begin > LEFT and begin + width > WIDTH - RIGHT:
            begin, line = float(LEFT), line + 1
        places.append((begin, line))
        begin += width
    return places


def _legend_height(names: Iterable[str]) -> float:
    return LINE_HEIGHT * (1 + max((line for _, line in _places(names)), default=0))


def _legend(root: ET.Element, names: Iterable[str]) -> None:
    names = list(names)
    for number, (name, (begin, line)) in enumerate(zip(names, _places(names), strict=True)):
        y = TOP + LINE_HEIGHT * line
        swatch = _element(root, "line", "line", x1=begin, x2=begin + SWATCH, y1=y - 4, y2=y - 4)
        swatch.attrib.update(_stroke(number))
        _text(root, begin + SWATCH + 8, y, name)


def _stroke(number: int) -> dict[str, str]:
    dash = DASHES[number % len(DASHES)]
    return {"stroke": COLOURS[number % len(COLOURS)], **({"stroke-dasharray": dash} if dash else {})}


def _element(root: ET.Element, tag: str, kind: str, **numbers: float) -> ET.Element:
    return ET.SubElement(root, tag, {"class": kind, **{key: _number(each) for key, each in numbers.items()}})


def _text(
    root: ET.Element, x: float, y: float, text: str, kind: str = "", anchor: str = "start"
) -> ET.Element:
    attributes = {
        "x": _number(x),
        "y": _number(y),
        "text-anchor": anchor,
        **({"class": kind} if kind else {}),
    }
    element = ET.SubElement(root, "text", attributes)
    element.text = text
    return element


def _number(value: float) -> str:
    """Write pixels to a tenth, and never as -0."""
    return f"{round(value, 1) + 0.0:g}"


def _shown(tick: float) -> str:
    return f"{tick:,.10g}".replace(",", "\u2009")
