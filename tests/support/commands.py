"""Operator commands: their names, and how tests run them on an installation; none may print a secret."""

from collections.abc import Iterator
from typing import Any

import typer

from issuer.cli.commands import app
from support.servers import PASSPHRASE, Done, Installation

PASSWORD = "violet otters juggle pancakes"
OTHER_PASSWORD = "orange badgers fold umbrellas"
NEVER_PRINTED = (PASSWORD, OTHER_PASSWORD, PASSPHRASE, "$argon2", "PRIVATE KEY")


def all_commands() -> Iterator[str]:
    """Walk the command line as typer builds it."""
    group = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        yield from (
            (f"issuer {name} {child}" for child in sorted(children)) if children else (f"issuer {name}",)
        )


def run(installation: Installation, *arguments: str, stdin: str = "") -> Done:
    """Run a command; fail if it prints a secret."""
    done = installation.command(*arguments, stdin=stdin)
    assert not [secret for secret in NEVER_PRINTED if secret in done.out + done.err]
    assert "Traceback" not in done.err
    return done


def run_json(installation: Installation, *arguments: str, stdin: str = "", code: int = 0) -> Any:
    """Run a command with `--json`, and return the document, which must be the whole of stdout."""
    done = run(installation, *arguments, "--json", stdin=stdin)
    assert done.code == code, done
    return done.document
