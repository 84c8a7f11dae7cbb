"""Standard error that cannot fail what prints to it, and descriptors 0 to 2 that are open.

Writing lines without waiting is left to `log_output`; standard output of commands, to `cli.streams`.
"""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from issuer.log_output import LogOutput

STANDARD_ERROR = 2
LINE_MOST_CHARACTERS = 65536
"""A longer line that something prints without the log is broken."""


class UnfailingStream(io.TextIOBase):
    """Standard error for everything that prints there: what cannot be written is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    @property
    def below(self) -> TextIO | None:
        """The stream that this writes to; None if standard error was closed before the start."""
        return self._stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters are written that the encoding lacks."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Write `text`, if that is possible; return its length."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()
        return len(text)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def writable(self) -> bool:
        """Whether it may be written to: always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor; raise OSError without one."""
        if self._stream is None:
            raise OSError("standard error is closed")
        return self._stream.fileno()


class OutputStream(UnfailingStream):
    """Standard error of a process that serves: what anything prints there must not hold it up either."""

    def __init__(self, stream: TextIO | None, output: LogOutput) -> None:
        super().__init__(stream)
        self._output = output
        self._line = ""

    def write(self, text: str) -> int:
        """Write the lines that `text` completes."""
        lines, feed, self._line = (self._line + text).rpartition("\n")
        if feed:
            self._output.write(lines + feed)
        elif len(self._line) > LINE_MOST_CHARACTERS:
            line, self._line = self._line, ""
            self._output.write(line + "\n")
        return len(text)


def open_standard_files() -> None:
    """Let descriptors 0 to 2 be open files, or the next file, such as the database, would be standard error.

    Standard error that was closed cannot be written, so that worker processes, which inherit it, count lost lines.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            access = os.O_RDONLY if descriptor == STANDARD_ERROR else os.O_RDWR
            opened = os.open(Path(os.devnull), access)  # the lowest number that is free
            os.set_inheritable(opened, True)
