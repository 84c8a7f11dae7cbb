"""Standard input, output and error of a command, whatever the shell made of them: closed, full, or unread pipes.

A result that cannot be written is an error of the command; a message on standard error that cannot be written changes
nothing. How results look is decided in `output`.
"""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

STANDARD = (0, 1, 2)
ENCODING = "utf-8"


class OutputLost(Exception):
    """What was to be written to standard output did not get there."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot write to standard output: {reason}")


class _Output(io.TextIOWrapper):
    """Standard output: raises OutputLost, which no library takes for an error of its own."""

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


class _Errors(io.TextIOWrapper):
    """Standard error: what cannot be written is lost, and changes nothing."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """Make the three streams usable; characters that their encoding lacks are written as escapes."""
    closed = [number for number in STANDARD if not _is_open(number)]
    for _ in closed:  # or the next file that is opened, the database perhaps, would take its number
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:  # uvicorn hands the number of the descriptor on to workers
        sys.stdin = open(0, encoding=ENCODING, closefd=False)  # noqa: SIM115 - it lives as long as the process
    output = _Output(_file(1), *_text_options(sys.stdout))
    output.is_closed_by_shell = sys.stdout is None
    sys.stdout = output
    sys.stderr = _Errors(_file(2), *_text_options(sys.stderr))


def require_output() -> None:
    """Raise OutputLost if standard output is closed: before something is made that could not be handed over."""
    if isinstance(sys.stdout, _Output):
        sys.stdout._require_open()  # noqa: SLF001 - the two belong together


def finish(code: int | str | None) -> int | str | None:
    """Write what is buffered and return the exit code: a command that lost its result has failed.

    The interpreter has nothing left to write then, and cannot fail at its end.
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
    """Let what is still buffered go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    with suppress(OutputLost):
        sys.stdout.flush()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _file(number: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False))


def _text_options(stream: TextIO | None) -> tuple[str, str, str, bool]:
    """Return encoding, handling of what it lacks, line ends, and whether each line is written at once."""
    return getattr(stream, "encoding", None) or ENCODING, "backslashreplace", "\n", True
