"""How `issuer keys plan` shows the plan: a bar for each key on a common time axis, a table, and JSON."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from issuer.cli.output import Row
from issuer.cli.ring_view import KID_SHOWN, instant_or_none
from issuer.clock import instant
from issuer.keyring.plan import PLACEHOLDER, KeyTimeline, Plan
from issuer.logs import terminal_safe

LEAST_COLUMNS = 20
WAITS, SIGNS, REMAINS = MARKS = "░", "█", "▒"
ASCII_MARKS = ".", "#", "-"
"""Replacements for encodings without these characters."""
LEGEND = f"{WAITS} published   {SIGNS} signs   {REMAINS} until its last token expires"


def draw(plan: Plan, terminal: Console) -> None:
    """Print a bar for each key."""
    columns = max(LEAST_COLUMNS, min(terminal.width, 100) - KID_SHOWN - 9)
    for life in plan.timelines:
        label = f"{(life.kid or PLACEHOLDER)[:KID_SHOWN]:{KID_SHOWN}} {life.alg:5} "
        terminal.print(_text(terminal_safe(label) + bar(life, plan, columns), terminal), no_wrap=True)
    start, end = instant(plan.start), instant(plan.end)
    indent = " " * (KID_SHOWN + 7)
    terminal.print(Text(f"{indent}{start}{end:>{columns - len(start)}}"), no_wrap=True)
    terminal.print(_text(indent + LEGEND, terminal), "")


def _text(line: str, terminal: Console) -> Text:
    """Return a line in characters that the terminal's encoding has."""
    try:
        line.encode(terminal.encoding)
    except UnicodeEncodeError:
        line = line.translate(str.maketrans("".join(MARKS), "".join(ASCII_MARKS)))
    return Text(line)


def bar(life: KeyTimeline, plan: Plan, columns: int) -> str:
    """Return the life of a key as a bar of `columns` characters; even the shortest last part has one."""
    published = _column(life.published_at, plan, columns)
    signs = _column(life.signs_from, plan, columns)
    stops = _column(life.signs_until, plan, columns)
    leaves = _column(life.leaves_at, plan, columns)
    if life.leaves_at and life.leaves_at < plan.end:
        leaves = min(columns, max(leaves, stops + 1))
    cells = [" "] * columns
    for first, last, mark in ((published, signs, WAITS), (signs, stops, SIGNS), (stops, leaves, REMAINS)):
        cells[first:last] = mark * max(0, last - first)
    return "".join(cells[:columns])


def rows(plan: Plan) -> Sequence[Row]:
    """Return the steps as rows."""
    return [
        {
            "when": instant(step.at),
            "what": step.kind.value,
            "kid": (step.kid or PLACEHOLDER)[:KID_SHOWN],
            "alg": step.alg,
        }
        for step in plan.steps
    ]


def document(plan: Plan) -> dict[str, object]:
    """Return the plan for scripts; instants are RFC 3339, in UTC, and the kid of a future key is null."""
    return {
        "from": instant(plan.start),
        "until": instant(plan.end),
        "events": [
            {"at": instant(step.at), "event": step.kind.value, "kid": step.kid, "alg": step.alg}
            for step in plan.steps
        ],
        "keys": [
            {
                "kid": life.kid,
                "alg": life.alg,
                "published_at": instant(life.published_at),
                "signs_from": instant_or_none(life.signs_from),
                "signs_until": instant_or_none(life.signs_until),
                "leaves_jwks_at": instant_or_none(life.leaves_at),
            }
            for life in plan.timelines
        ],
    }


def _column(when: datetime | None, plan: Plan, columns: int) -> int:
    """Return the column of an instant; None is beyond the end of the axis."""
    if when is None:
        return columns
    share = (when - plan.start) / (plan.end - plan.start)
    return max(0, min(columns, round(share * columns)))
