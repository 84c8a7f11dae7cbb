"""Commands for operators, with tables for people and `--json` for scripts.

What a command does is in `administration`, `maintenance`, `checks` and `serving`.
"""

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


def main() -> None:
    """Run a command; a package that is not installed is one line, not a traceback."""
    _import_nothing_from_here()
    try:
        from issuer.cli import streams  # noqa: PLC0415 - Ctrl-C may come now

        streams.prepare()
        gc.disable()  # what is imported stays: looking for garbage among it takes a tenth of a start
        from issuer.cli.commands import run  # noqa: PLC0415 - what is missing shows here

        gc.freeze()
        gc.enable()
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:  # some commands import what only they need
        sys.exit(f"failed: the package {error.name} is not installed; run: make demo, or see README.md")


def _import_nothing_from_here() -> None:
    """Keep the current folder off the import path, in this process and in those that it starts.

    The service may write to that folder. An attacker who took over the service once could leave a module there, and
    multiprocessing starts its helpers with `python -c`, which looks in the current folder first.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    package = Path(__file__).parents[2]  # a checkout that is not installed
    with suppress(OSError):  # the current folder was removed
        if not sys.flags.safe_path and Path(sys.path[0] or ".").resolve() == Path.cwd() != package:
            del sys.path[0]
