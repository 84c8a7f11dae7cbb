"""Draws two timelines by the rules of the key ring: the life of a key, and a rotation as a verifier's cache sees it.

`python docs/pictures.py --write` writes `key-life.svg` and `rotation-cache.svg`; a test compares them. Plots of
measurements are drawn by `benchmarks/plot.py`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET  # only ever written here

from issuer.clock import duration
from issuer.keyring.key import Key
from issuer.keyring.plan import completed
from issuer.keyring.policy import DECISION_LIFETIME, Policy
from issuer.keyring.ring import KeyRing
from issuer.settings.settings import Settings
from issuer.signing.public_key import PublicKey

HERE = Path(__file__).parent
WIDTH, LEFT, RIGHT = 900, 150, 20
BAR, ROW = 22, 40
"""How high a bar is, and how far one is below another."""
NARROW = 36
"""Bars of at most so many pixels get no text."""
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:15px}.small{font-size:12px}"
    ".page{fill:#fff}.waits{fill:#2f7ed8;fill-opacity:.25;stroke:#2f7ed8}.signs{fill:#2f7ed8;stroke:#2f7ed8}"
    ".remains{fill:#e07b00;fill-opacity:.3;stroke:#e07b00}.tokens{fill:#2a9d5c;fill-opacity:.35;stroke:#2a9d5c}"
    ".cache{fill:#8a6fd1;fill-opacity:.2;stroke:#8a6fd1}.other{opacity:.45}.on{fill:#fff}"
    ".mark{stroke:#888;stroke-dasharray:3 3}.span{stroke:#888}.dot{fill:#8a6fd1}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.page{fill:#0d1117}.on{fill:#fff}}"
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Drawing:
    """An SVG document with bars, marks and spans; the same calls give the same text to the letter."""

    def __init__(self, title: str, height: int) -> None:
        size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
        self.root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
        ET.SubElement(self.root, "title").text = title
        ET.SubElement(self.root, "style").text = STYLE
        self._add("rect", "page", x=0, y=0, width=WIDTH, height=height)
        self.text(LEFT, 24, title, "title")

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Write a line of text whose base is at `y`."""
        self._add("text", kind, x=x, y=y, **{"text-anchor": anchor}).text = text

    def row(self, y: float, label: str) -> None:
        """Name what is drawn at the height of `y`."""
        self.text(LEFT - 12, y + 15, label, anchor="end")

    def bar(self, begin: float, end: float, y: float, kind: str, text: str = "") -> None:
        """Draw a bar, with a text at its beginning."""
        self._add("rect", kind, x=begin, y=y, width=end - begin, height=BAR, rx=3)
        if text and end - begin > NARROW:
            on = "small on" if kind == "signs" else "small"
            self.text(begin + 12, y + 15, text, on)

    def mark(self, x: float, top: float, bottom: float) -> None:
        """Draw an instant through all rows."""
        self._add("line", "mark", x1=x, x2=x, y1=top, y2=bottom)

    def dot(self, x: float, y: float) -> None:
        """Draw a fetch."""
        self._add("circle", "dot", cx=x, cy=y, r=4)

    def span(self, begin: float, end: float, y: float, text: str, anchor: str = "middle") -> None:
        """Draw from when to when a duration is, and what it is, beneath."""
        self._add("line", "span", x1=begin, x2=end, y1=y, y2=y)
        for x in (begin, end):
            self._add("line", "span", x1=x, x2=x, y1=y - 4, y2=y + 4)
        at = {"start": begin, "middle": (begin + end) / 2, "end": end}[anchor]
        self.text(at, y + 17, text, "small", anchor)

    def svg(self) -> str:
        """Return the document."""
        ET.indent(self.root, " ")
        return ET.tostring(self.root, encoding="unicode") + "\n"

    def _add(self, tag: str, kind: str, **attributes: float | str) -> ET.Element:
        written = {
            name: each if isinstance(each, str) else f"{round(each, 1) + 0.0:g}"
            for name, each in attributes.items()
        }
        return ET.SubElement(self.root, tag, {**({"class": kind} if kind else {}), **written})


@dataclass(frozen=True)
class Life:
    """The instants of one key."""

    published: datetime
    ripe: datetime
    signs: datetime
    superseded: datetime
    leaves: datetime


def lives(policy: Policy) -> Sequence[Life]:
    """Return the lives of three keys, one after another, as the ring makes them if no operator changes anything."""
    ring = KeyRing.create([PublicKey("first", policy.algorithm, {})], policy, BEGIN)
    seen: dict[str, tuple[KeyRing, Key]] = {}
    now = BEGIN
    for _ in range(5):
        ring, _made = completed(ring, policy, now)
        seen |= {key.kid: (ring, key) for key in ring.keys}
        now = min(key.activates_at for key in ring.standbys(now) if key.activates_at)
    whole = [_life(*each) for each in seen.values() if each[0].leaves_at(each[1])]
    return [life for life in whole if life.published > BEGIN][:3]


def _life(ring: KeyRing, key: Key) -> Life:
    signs, superseded, leaves = key.activates_at, ring.superseded_at(key), ring.leaves_at(key)
    if signs is None or superseded is None or leaves is None:
        raise ValueError(key.kid)
    return Life(key.published_at, key.may_sign_from, signs, superseded, leaves)


def key_life(policy: Policy) -> str:
    """Draw the life of a key between the one before and the one after; not to scale."""
    before, this, after = lives(policy)
    columns = {  # in the order of time, so far apart that they can be distinguished
        before.signs: 150,
        this.ripe: 270,
        this.signs: 400,
        before.leaves: 500,
        this.superseded: 700,
        this.leaves: 800,
    }
    if list(columns) != sorted(columns) or this.published != before.signs or after.published != this.signs:
        raise ValueError("the rules of the ring draw another picture")
    x, edge = columns.__getitem__, WIDTH - RIGHT
    drawing = Drawing("The life of a key (not to scale)", 370)
    for when, y, text in (
        (this.published, 64, "published"),
        (this.ripe, 64, "may sign"),
        (this.signs, 64, "signs"),
        (this.superseded, 64, "superseded"),
        (this.leaves, 64, "leaves the JWKS"),
    ):
        drawing.text(x(when), y, text, "small", "middle" if when != this.published else "start")
        drawing.mark(x(when), 72, 232)
    top = 82
    drawing.row(top, "the key before")
    drawing.bar(x(before.signs), x(before.superseded), top, "signs other", "signs")
    drawing.bar(x(before.superseded), x(before.leaves), top, "remains other")
    drawing.row(top + ROW, "the key")
    drawing.bar(x(this.published), x(this.signs), top + ROW, "waits", "published: standby")
    drawing.bar(x(this.signs), x(this.superseded), top + ROW, "signs", "signs: current")
    drawing.bar(x(this.superseded), x(this.leaves), top + ROW, "remains", "previous")
    drawing.row(top + 2 * ROW, "the key after")
    drawing.bar(x(after.published), x(after.signs), top + 2 * ROW, "waits other", "published: standby")
    drawing.bar(x(after.signs), edge, top + 2 * ROW, "signs other", "signs")
    drawing.row(top + 3 * ROW, "the key's tokens")
    drawing.bar(x(this.signs), x(this.leaves), top + 3 * ROW, "tokens", "are valid")

    lead, period = duration(this.ripe - this.published), duration(this.superseded - this.signs)
    y = 250
    drawing.span(x(this.published), x(this.ripe), y, f"ISSUER_PUBLISH_LEAD {lead}", "start")
    drawing.span(x(this.signs), x(this.superseded), y, f"ISSUER_ROTATION_PERIOD {period}")
    y += 40
    waits = duration(this.signs - this.published)
    drawing.span(x(this.published), x(this.signs), y, f"standby for {waits}")
    drawing.span(x(this.superseded), x(this.leaves), y, f"{_exact(this.leaves - this.superseded)} =", "end")
    margin = (
        f"margin: ISSUER_NODE_TIMEOUT {duration(policy.node_timeout)} + twice ISSUER_CLOCK_SKEW"
        f" {duration(policy.clock_skew)} + {duration(DECISION_LIFETIME)} to decide"
    )
    parts = (
        f"ISSUER_ACCESS_TOKEN_LIFETIME {duration(policy.token_lifetime)} + margin {_exact(policy.margin)}",
        margin,
    )
    for line, text in enumerate(parts):
        drawing.text(x(this.leaves), y + 38 + 18 * line, text, "small", "end")
    return drawing.svg()


SHORT = {"publish_lead": timedelta(minutes=12), "outage_limit": timedelta(minutes=5)}
"""So that all fits into one picture; everything else is the defaults."""
FETCHED_BEFORE = timedelta(seconds=30)
"""How long before the new key is published the unlucky verifier fetched."""


def rotation_cache(policy: Policy) -> str:
    """Draw a rotation as the unluckiest verifier sees it: it fetched just before the new key was published."""
    published, rotated = BEGIN, BEGIN + policy.publish_lead
    old, new, third = (PublicKey(name, policy.algorithm, {}) for name in "ABC")
    founded = KeyRing.create([old], policy, published - timedelta(days=1))
    waiting = founded.published([new], policy, published)
    after = waiting.promoted(policy, rotated).published([third], policy, rotated)
    rings = {founded.changed_at: founded, published: waiting, rotated: after}
    gone = after.leaves_at(after.find("A"))
    if gone is None:
        raise ValueError(after)
    dies = rotated + policy.token_lifetime
    fetches = [published - FETCHED_BEFORE + policy.max_age * turn for turn in range(-2, 6)]
    first, last = fetches[1] - timedelta(minutes=1), fetches[-1] + policy.max_age
    held = {when: _key_set(rings, when) for when in fetches}
    _require_unbroken(held, {"A": (first, dies), "B": (rotated, last)})

    def x(when: datetime) -> float:
        return LEFT + max(0.0, (when - first) / (last - first)) * (WIDTH - RIGHT - LEFT)

    drawing = Drawing("A rotation, as the unluckiest verifier's cache sees it", 402)
    edge, top = x(last), 82
    for when, text in ((published, "B is published"), (rotated, "B signs"), (gone, "A leaves the JWKS")):
        drawing.text(x(when), 64, text, "small", "middle")
        drawing.mark(x(when), 72, 272)
    drawing.row(top, "signs")
    drawing.bar(LEFT, x(rotated), top, "signs", "A")
    drawing.bar(x(rotated), edge, top, "signs", "B")
    drawing.row(top + ROW, "JWKS")
    changes = [first, published, rotated, gone, last]
    for begin, end in pairwise(changes):
        drawing.bar(x(begin), x(end), top + ROW, "waits", " ".join(_key_set(rings, begin)))
    drawing.row(top + 2 * ROW, "in the cache")
    for begin, end in zip(fetches, [*fetches[1:], last], strict=True):
        drawing.bar(x(begin), x(end), top + 2 * ROW, "cache", " ".join(held[begin]))
        if begin >= first:
            drawing.dot(x(begin), top + 2 * ROW + BAR / 2)
    drawing.row(top + 3 * ROW, "tokens of A")
    drawing.bar(LEFT, x(rotated), top + 3 * ROW, "tokens", "issued and accepted")
    drawing.bar(x(rotated), x(dies), top + 3 * ROW, "remains", "accepted until they expire")
    drawing.row(top + 4 * ROW, "tokens of B")
    drawing.bar(x(rotated), edge, top + 4 * ROW, "tokens", "issued and accepted")

    knows = next(when for when, kids in held.items() if "B" in kids)
    y = 290
    drawing.span(x(published), x(rotated), y, f"ISSUER_PUBLISH_LEAD, here {duration(policy.publish_lead)}")
    drawing.span(
        x(rotated), x(dies), y + 38, f"ISSUER_ACCESS_TOKEN_LIFETIME {duration(policy.token_lifetime)}"
    )
    drawing.dot(LEFT + 4, 378)
    drawing.text(
        LEFT + 16,
        382,
        f"a fetch, every ISSUER_JWKS_MAX_AGE {duration(policy.max_age)}; it has B {_exact(rotated - knows)} before B"
        " signs, and A until its last token has expired",
        "small",
    )
    return drawing.svg()


def _key_set(rings: Mapping[datetime, KeyRing], when: datetime) -> tuple[str, ...]:
    ring = next(ring for begin, ring in reversed(rings.items()) if begin <= when)
    return tuple(key.kid for key in sorted(ring.published_keys(when), key=lambda key: key.kid))


def _require_unbroken(
    held: Mapping[datetime, tuple[str, ...]], alive: Mapping[str, tuple[datetime, datetime]]
) -> None:
    """Raise ValueError if the cache ever lacks the key of a token that is still valid."""
    for begin, end in pairwise(held):
        for kid, (since, until) in alive.items():
            if since < end and begin < until and kid not in held[begin]:
                raise ValueError(f"{kid} is not in the cache of {begin}")


def _exact(span: timedelta) -> str:
    """Return a duration in minutes and seconds: `11m 31s`."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    return " ".join(filter(None, [f"{minutes}m" if minutes else "", f"{seconds}s" if seconds else ""]))


def pictures() -> Mapping[str, str]:
    """Return each picture by the name of its file, under the default settings."""
    policy = Settings(_env_file=None).policy()  # type: ignore[call-arg]
    return {
        "key-life.svg": key_life(policy),
        "rotation-cache.svg": rotation_cache(replace(policy, **SHORT)),
    }


if __name__ == "__main__":
    for name, svg in pictures().items():
        if sys.argv[1:] == ["--write"]:
            (HERE / name).write_text(svg, "utf-8")
        else:
            sys.stdout.write(svg)
