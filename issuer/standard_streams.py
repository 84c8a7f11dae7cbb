"""Standard error that never raises, and descriptors 0 to 2 that are always open.

Writing without blocking is left to `log_output`; standard output of commands, to `cli.streams`.
"""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from issuer.log_output import LogOutput

STANDARD_ERROR = 2
LINE_MOST_CHARACTERS = 65536
"""A longer line that is printed without the log is split."""


class UnfailingStream(io.TextIOBase):
    """Standard error that drops what cannot be written."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    @property
    def below(self) -> TextIO | None:
        """The underlying stream; None if standard error was closed before the start."""
        return self._stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the underlying stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters outside of the encoding are written."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Write `text` if possible; return its length."""
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
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor; raise OSError if there is none."""
        if self._stream is None:
            raise OSError("standard error is closed")
        return self._stream.fileno()


class OutputStream(UnfailingStream):
    """Standard error of a serving process: printing to it must not block either."""

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
    """Open descriptors 0 to 2 if they are closed; otherwise the next file, such as the database, would get them.

    A closed standard error is opened read-only, so that workers, which inherit it, count dropped lines.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            access = os.O_RDONLY if descriptor == STANDARD_ERROR else os.O_RDWR
            opened = os.open(Path(os.devnull), access)  # the lowest number that is free
            os.set_inheritable(opened, True)
