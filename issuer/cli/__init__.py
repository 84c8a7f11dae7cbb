"""Operator commands: each a docstring and a call, with a table for people and `--json` for scripts."""

import gc
import sys


def main() -> None:
    """Run a command; a package that is not installed is one line, not a traceback."""
    try:
        gc.disable()  # what is imported stays: looking for garbage among it takes a tenth of a start
        from issuer.cli.commands import run  # noqa: PLC0415 - what is missing shows here

        gc.freeze()
        gc.enable()
        run()
    except ModuleNotFoundError as error:  # some commands import what only they need
        sys.exit(f"failed: the package {error.name} is not installed; run: make demo, or see README.md")
