"""Values of metrics in files that the workers of one server share; a full disk never stops a request.

prometheus-client maps a sparse file into memory, and a write to it when the disk is full ends the process (SIGBUS).
So zeros are written to the file before it is mapped and before it grows. While that fails, values are kept in memory
and added to the file later. The metrics are defined in `instruments`, the directory in `metrics_directory`.
"""

import errno
import os
from contextlib import suppress
from threading import Lock
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES = 64 * 1024
"""The same as prometheus-client: room for some 250 values."""


def share_values() -> None:
    """Make the metrics that this process declares from now on shared; prometheus-client has no other way."""
    values.MmapedDict = AllocatedFile  # type: ignore[attr-defined]
    values.ValueClass = SharedValue


class AllocatedFile(MmapedDict):
    """A file whose blocks are allocated before it is mapped; raises OSError if that fails."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode and not os.path.exists(filename):  # noqa: PTH110 - the library hands over text
            _create(filename)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        size, needed = self._capacity, self._used + len(key.encode()) + 32  # its length, padding, two doubles
        while size < needed:
            size *= 2
        if size > self._capacity:
            _extend(self._fname, size)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _create(filename: str) -> None:
    """Create the file atomically: a reader of the directory fails on an empty file."""
    unfinished = f"{filename}.new"
    try:
        _extend(unfinished, FIRST_BYTES)
        os.rename(unfinished, filename)  # noqa: PTH104
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)  # noqa: PTH108
        raise


def _extend(filename: str, size: int) -> None:
    """Write zeros up to `size`; raise OSError and leave the size unchanged if there is no room."""
    descriptor = os.open(filename, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        is_whole = False
        try:
            is_whole = before + os.pwrite(descriptor, bytes(max(0, size - before)), before) >= size
        finally:
            if not is_whole:
                os.ftruncate(descriptor, before)
        if not is_whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)
    finally:
        os.close(descriptor)


_InFile: Any = values.MultiProcessValue()  # type: ignore[no-untyped-call]


class SharedValue:
    """A value in a file, or in memory while the disk has no room."""

    _multiprocess = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a value in the file, if possible."""
        try:
            return _InFile(*args, **kwargs)
        except (OSError, ValueError):
            return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._arguments = args, kwargs
        self._lock = Lock()
        self._value: float = 0.0
        self._is_set = False
        self._in_file: Any = None

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with self._lock:
            if self._is_attached():
                self._in_file.inc(amount)
            else:
                self._value += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value."""
        with self._lock:
            if self._is_attached():
                self._in_file.set(value, timestamp)
            else:
                self._value, self._is_set = value, True

    def get(self) -> float:
        """Return the value."""
        with self._lock:
            value: float = self._in_file.get() if self._in_file else self._value
            return value

    def set_exemplar(self, exemplar: Any) -> None:
        """Do nothing: files hold no exemplars."""

    def get_exemplar(self) -> None:
        """Return None: files hold no exemplars."""

    def _is_attached(self) -> bool:
        """Whether the value is in its file; move it there from memory if possible."""
        if self._in_file is None:
            args, kwargs = self._arguments
            try:
                in_file = _InFile(*args, **kwargs)
                in_file.set(self._value) if self._is_set else in_file.inc(self._value)
            except (OSError, ValueError):
                return False
            self._in_file = in_file
        return True
