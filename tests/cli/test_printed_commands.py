"""Every `issuer …` command that a message names exists, takes the options that are shown, and lacks none it needs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from issuer.cli.commands import app

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(
    r"\bissuer ((?:keys|users|clients|token|audit|check|serve|move|demo)\b(?: [a-z-]+| --[a-z-]+| [A-Z]+)*)"
)
ADVISES = re.compile(r"(?:run|see|instead|again|know it|its private keys|back): $")
"""What stands before a command that is to be run as it is printed."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text in the source with its file, formatted values as a word."""
    for path in sorted((ROOT / "issuer").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        inside = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values
                )
                yield path.name, "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield path.name, node.value


def printed() -> Iterator[tuple[str, str, bool]]:
    for name, text in texts():
        for match in COMMAND.finditer(text):
            yield name, match[1], bool(ADVISES.search(text[: match.start()])) or match.start() == 0


COMMANDS = sorted(set(printed()))


def test_there_are_commands_in_messages() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("file", "command", "is_advice"), COMMANDS)
def test_a_command_in_a_message_can_be_run(file: str, command: str, is_advice: bool) -> None:
    words = command.split()
    found: Any = typer.main.get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    if hasattr(found, "commands"):
        assert not words, f"there is no such command: issuer {command}"
        assert not is_advice, f"this is no whole command: issuer {command}"
        return
    options = {option: parameter for parameter in found.params for option in parameter.opts}
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= options.keys()
    if is_advice:
        needed = {each.opts[0] for each in found.params if each.required and each.opts[0].startswith("--")}
        assert needed <= set(given), f"issuer {command}"
