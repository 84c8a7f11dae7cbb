"""How `issuer keys plan` shows the plan: a bar for each key on a common time axis, a table, and JSON."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from issuer.cli.ring_view import instant_or_none
from issuer.cli.tables import Row
from issuer.cli.terminal import STYLES, short_kid
from issuer.clock import instant
from issuer.keyring.plan import PLACEHOLDER, KeyTimeline, Plan
from issuer.logs import terminal_safe

LEAST_COLUMNS, MOST_COLUMNS = 20, 84
LABEL_COLUMNS = 16
WAITS, SIGNS, REMAINS = "░", "█", "▒"
MARKS = {WAITS: "standby", SIGNS: "current", REMAINS: "previous"}
"""The phase that each mark stands for; see `streams.SYMBOLS` for encodings without these characters."""
LEGEND = f"{WAITS} published   {SIGNS} signs   {REMAINS} until its last token expires"


def draw(plan: Plan, terminal: Console) -> None:
    """Print a bar for each key, the axis and the legend."""
    columns = max(LEAST_COLUMNS, min(terminal.width - LABEL_COLUMNS, MOST_COLUMNS))
    start, end = instant(plan.start), instant(plan.end)
    indent = " " * LABEL_COLUMNS
    lines = [
        *(_label(life) + bar(life, plan, columns) for life in plan.timelines),
        f"{indent}{start}{end:>{columns - len(start)}}",
        indent + LEGEND,
        "",
    ]
    for line in lines:
        text = Text(line.rstrip())
        for mark, phase in MARKS.items():
            text.highlight_regex(f"{mark}+", STYLES[phase])
        terminal.print(text, soft_wrap=True)


def _label(life: KeyTimeline) -> str:
    return terminal_safe(f"{_kid(life.kid):9} {life.alg:5} ")


def _kid(kid: str | None) -> str:
    return short_kid(kid) if kid else PLACEHOLDER


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
            "kid": _kid(step.kid),
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
