"""Operator commands: each a docstring and a call, with a table for people and `--json` for scripts."""

import gc
import sys


def main() -> None:
    """Run a command; a package that is not installed is one line, not a traceback."""
    gc.disable()  # what is imported stays: looking for garbage among it takes a tenth of a start
    try:
        from issuer.cli.commands import run  # noqa: PLC0415 - what is missing shows here
    except ModuleNotFoundError as error:
        sys.exit(f"failed: the package {error.name} is not installed; run: make demo, or see README.md")
    gc.freeze()
    gc.enable()
    run()
