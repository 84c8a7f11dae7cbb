"""Standard input, output and error of a command, even if they are closed, full, or pipes without a reader.

A result that cannot be written is an error; a message on standard error that cannot be written is dropped. The format
of results is left to `output`.
"""

import codecs
import io
import os
import sys
from contextlib import suppress

from issuer.standard_streams import UnfailingStream, open_standard_files

ENCODING = "utf-8"
SYMBOLS = {"…": "...", "✓": "ok", "✗": "x", "░": ".", "█": "#", "▒": "-"}
"""What is written instead of a symbol that an encoding does not have; other characters are escaped."""


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(SYMBOLS.get(each) or ascii(each)[1:-1] for each in lost), error.end


codecs.register_error("issuer.symbols", _substitute)


class OutputLost(Exception):
    """Standard output could not be written."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot write to standard output: {reason}")


class _Output(io.TextIOWrapper):
    """Standard output that raises OutputLost, which no library handles."""

    is_closed_by_shell = False

    def write(self, text: str, /) -> int:
        try:
            self._require_open()
            return super().write(text)
        except OSError as error:
            raise OutputLost(error.strerror or str(error)) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLost(error.strerror or str(error)) from error

    def _require_open(self) -> None:
        if self.is_closed_by_shell:
            raise OutputLost("it is closed")


def prepare() -> None:
    """Make the three streams usable; characters outside of their encoding are escaped."""
    open_standard_files()
    if sys.stdin is None:  # uvicorn passes the descriptor to workers
        sys.stdin = open(0, encoding=ENCODING, closefd=False)  # noqa: SIM115 - it lives as long as the process
    encoding = getattr(sys.stdout, "encoding", None) or ENCODING
    binary = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
    output = _Output(binary, encoding, "issuer.symbols", "\n", line_buffering=True)
    output.is_closed_by_shell = sys.stdout is None
    sys.stdout = output
    sys.stderr = UnfailingStream(sys.stderr)


def require_output() -> None:
    """Raise OutputLost if standard output is closed; called before a secret is created that must be shown."""
    if isinstance(sys.stdout, _Output):
        sys.stdout._require_open()  # noqa: SLF001 - the two belong together


def finish(code: int | str | None) -> int | str | None:
    """Flush the streams and return the exit code: 1 if the result could not be written.

    Afterwards the interpreter has nothing to flush at exit, so that it cannot fail there.
    """
    try:
        sys.stdout.flush()
    except OutputLost as lost:
        _drop_output()
        if not code:
            sys.stderr.write(f"failed: {lost}\n")
            code = 1
    sys.stderr.flush()
    return code


def _drop_output() -> None:
    """Discard what is still buffered."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    with suppress(OutputLost):
        sys.stdout.flush()
