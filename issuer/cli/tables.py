"""Tables for people: rows under headings, or lists of their members where the terminal is too narrow.

Colours are defined in `terminal`; which rows there are is up to the commands.
"""

from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from issuer.cli.terminal import style_of
from issuer.logs import terminal_safe

Row = Mapping[str, str | int | None]

LABEL_MOST = 24
"""A longer name of a member, in a hostile token, does not move the values of the others."""
COLOURED = frozenset({"phase", "action", "state", "result", "what"})
"""Columns whose words have a meaning; a user may be called `revoked`."""


def draw(rows: Sequence[Row], terminal: Console, hidden: Collection[str] = ()) -> None:
    """Print `rows` as a table without empty columns; as lists, if a word, such as an id, would have to be split."""
    names = [name for name in rows[0] if name not in hidden and any(_text(row[name]) for row in rows)]
    cells = {name: [_text(row[name]) for row in rows] for name in names}
    if sum(map(_longest_word, cells, cells.values())) + len(names) - 1 <= terminal.width:
        terminal.print(_table(cells))
        return
    for number, row in enumerate(rows):
        if number:
            terminal.print()
        draw_members({_heading(name): row[name] for name in names}, terminal)


def draw_members(members: Row, terminal: Console) -> None:
    """Print names and values, one in a line; a value is copied, so that it must not be wrapped."""
    widest = max((len(name) for name in members if len(name) <= LABEL_MOST), default=0)
    for name, value in members.items():
        if text := _text(value):
            label = f"{name:{widest}}  "
            terminal.print(Text.assemble((label, "bold"), (text, _style(name, text))), soft_wrap=True)


def _text(value: str | int | None) -> str:
    return "" if value is None else terminal_safe(str(value))


def _table(cells: Mapping[str, Sequence[str]]) -> Table:
    """Return a table of columns with headings."""
    drawn = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for name, texts in cells.items():
        whole = not any(" " in text for text in texts)  # an instant or an id
        drawn.add_column(_heading(name), overflow="fold", no_wrap=whole, min_width=_longest_word(name, texts))
    for row in zip(*cells.values(), strict=True):
        drawn.add_row(*(Text(text, _style(name, text)) for name, text in zip(cells, row, strict=True)))
    return drawn


def _style(name: str, text: str) -> str:
    """Return the style of a cell; a result that is not `ok` is the reason of a failure."""
    known = style_of(text.partition(",")[0]) if name in COLOURED else ""
    return known or (style_of("failed") if name == "result" else "")


def _heading(name: str) -> str:
    return name.replace("_", " ")


def _longest_word(name: str, texts: Sequence[str]) -> int:
    words = [*_heading(name).split(), *(word for text in texts for word in text.split())]
    return max(map(len, words), default=1)
