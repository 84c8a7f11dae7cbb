"""The events of the log are documented, with their level."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("web", "serving", "cli", "clients")
LEVELS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}


def logged() -> Iterator[tuple[str, str]]:
    """Yield each event with a constant name, and its level."""
    for file in (file for package in PACKAGES for file in (ROOT / "issuer" / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(ast.Attribute(attr=method), [ast.Constant(str(event)), *_]) if method in LEVELS:
                    yield event, LEVELS[method]


def test_each_event_is_documented_with_its_level() -> None:
    rows = re.findall(
        r"^\| `(.+?)` \| (\w+) \|", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.MULTILINE
    )
    events = set(logged())
    assert len(events) > 15
    assert events - set(rows) == set()
