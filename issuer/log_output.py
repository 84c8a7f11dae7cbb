"""Writes log lines to standard error without ever raising or blocking.

A line that cannot be written is dropped and counted. Lines stay complete and in order. Rendering is left to `logs`.
"""

import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fcntl import F_GETFL, fcntl
from queue import SimpleQueue
from typing import TextIO

BACKLOG_MOST_BYTES = 4 * 1024 * 1024
"""How much is buffered for a reader that has stopped reading; further lines are dropped."""
FLUSH_SECONDS = 5.0
"""How long a process that ends waits at most until its last lines are read..."""
STALLED_SECONDS = 1.0
"""...and how long if nothing is read."""
POLL_MILLISECONDS = 1000


@dataclass(frozen=True)
class Channel:
    """A file descriptor, and how to write to it."""

    descriptor: int
    send: Callable[[bytes], int]
    """Write some of the bytes and return how many; may raise OSError."""
    may_block: bool
    """Whether `send` blocks; otherwise it raises BlockingIOError."""
    owner: socket.socket | None = None
    """The socket object that owns the descriptor, if any, and would close it a second time."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self.owner.detach() if self.owner else self.descriptor)

    def wait(self) -> None:
        """Wait until the file is writable, at most for a second."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        poll.poll(POLL_MILLISECONDS)


def open_channel(stream: TextIO) -> Channel:
    """Return a channel to the file of `stream`; raise OSError or ValueError if it has none.

    The descriptor is a duplicate: if the original were closed, its number could be reused for a database. O_NONBLOCK
    would apply to every process that shares the open file, such as the shell. So a pipe or a terminal is opened
    again, and a socket is written with MSG_DONTWAIT. Regular files never block.
    """
    own = os.dup(stream.fileno())
    mode = os.fstat(own).st_mode
    if stat.S_ISREG(mode):
        return Channel(own, lambda data: os.write(own, data), may_block=False)
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=own)
        return Channel(own, lambda data: sock.send(data, socket.MSG_DONTWAIT), may_block=False, owner=sock)
    try:
        if sys.platform != "linux":
            raise OSError  # elsewhere /dev/fd shares the open file  # noqa: TRY301
        again = os.open(f"/proc/self/fd/{own}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # no /proc, or a pipe of another account
        return Channel(own, lambda data: os.write(own, data), may_block=True)
    os.close(own)
    return Channel(again, lambda data: os.write(again, data), may_block=False)


def _is_open_for_writing(stream: TextIO | None) -> bool:
    """Whether the stream is writable; not if standard error was closed before the start, see `standard_streams`."""
    if stream is None:
        return False
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # a stream in memory
        return True
    try:
        return fcntl(descriptor, F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


class LogOutput:
    """Writes lines to a stream; no method raises, and only `flush` and `close` block.

    Lines are written immediately. While the reader does not keep up, they are kept in a bounded backlog that a thread
    writes. Safe in signal handlers: a line logged there while another one is being written follows it.
    """

    def __init__(self, stream: TextIO | None, most_bytes: int = BACKLOG_MOST_BYTES) -> None:
        stream = stream if _is_open_for_writing(stream) else None
        self.dropped = 0
        """The number of dropped lines."""
        self.is_failing = stream is None
        """Whether the latest line was dropped."""
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._most_bytes = most_bytes
        self._channel: Channel | None = None
        with suppress(OSError, ValueError, AttributeError):  # none: a stream in memory, or closed
            self._channel = open_channel(stream) if stream else None
        self._lock = threading.RLock()  # a signal handler may log while this thread holds it
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._written = 0  # of the first line of the backlog
        self._is_torn = False
        self._is_draining = False
        self._thread: threading.Thread | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()  # its `put` may be interrupted by a signal handler

    def write(self, text: str) -> None:
        """Write whole lines; `text` ends with a line feed."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._lock:
            if self._channel is None:
                self._write_to_stream(data)
            elif self._backlog_bytes and self._backlog_bytes + len(data) > self._most_bytes:
                self._drop()
            else:
                self._backlog.append(data)
                self._backlog_bytes += len(data)
                if self._channel.may_block:
                    self._wake_thread()
                else:
                    self._drain(self._channel)

    def flush(self) -> None:
        """Wait until all lines are written, as long as the reader makes progress."""
        now = progressed = time.monotonic()
        deadline, before = now + FLUSH_SECONDS, (0, 0)
        while self._backlog_bytes and now < deadline and now - progressed < STALLED_SECONDS:
            if self._channel and not self._channel.may_block:
                with self._lock:
                    self._drain(self._channel)  # the thread may have ended
            time.sleep(0.005)
            now, left = time.monotonic(), (len(self._backlog), self._written)
            if left != before:
                progressed, before = now, left

    def close(self) -> None:
        """Flush, and drop all further lines."""
        self.flush()
        with self._lock:
            channel, self._channel, self._stream = self._channel, None, None
            self._backlog.clear()
            self._backlog_bytes = 0
        if channel and not channel.may_block:  # otherwise the thread may be using the descriptor
            channel.close()
        self._wake.put(None)

    def _write_to_stream(self, data: bytes) -> None:
        try:
            if self._stream is None:
                raise OSError  # noqa: TRY301 - the same as a stream that cannot be written
            self._stream.write(data.decode(self._encoding))
            self._stream.flush()
            self.is_failing = False
        except Exception:  # noqa: BLE001 - a stream of another library may raise anything
            self._drop()

    def _drop(self) -> None:
        self.dropped += 1
        self.is_failing = True

    def _drain(self, channel: Channel) -> None:
        """Write the backlog until a write would block; the lock is held."""
        if self._is_draining:  # in a signal handler, which interrupted this method
            return
        self._is_draining = True
        try:
            while self._backlog and channel is self._channel:
                try:
                    self._advance(channel.send(self._next()))
                except BlockingIOError:
                    self._wake_thread()
                    return
                except Exception:  # noqa: BLE001 - such as a full disk, a closed pipe or file
                    self._drop_first_line()
        finally:
            self._is_draining = False

    def _next(self) -> bytes:
        line = self._backlog[0]
        if self._is_torn and not self._written and not line.startswith(b"\n"):
            # Part of an earlier line was written before the disk was full: end that line.
            self._backlog[0] = line = b"\n" + line
            self._backlog_bytes += 1
        return line[self._written :] if self._written else line

    def _advance(self, count: int) -> None:
        self._written += count
        self._is_torn = self._is_torn and not count
        if self._written >= len(self._backlog[0]):
            self._backlog_bytes -= len(self._backlog.popleft())
            self._written = 0
            self.is_failing = False

    def _drop_first_line(self) -> None:
        self._is_torn = self._is_torn or self._written > 0
        self._backlog_bytes -= len(self._backlog.popleft())
        self._written = 0
        self._drop()

    def _wake_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._serve, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: the next line tries again
                return
            self._thread = thread
        if self._wake.empty():
            self._wake.put(None)

    def _serve(self) -> None:
        while (channel := self._channel) is not None:
            self._wake.get()
            while self._backlog and channel is self._channel:
                if channel.may_block:
                    self._write_first(channel)
                    continue
                channel.wait()
                with self._lock:
                    self._drain(channel)

    def _write_first(self, channel: Channel) -> None:
        """Write some of the first line; for a blocking channel only this thread does."""
        with self._lock:
            data = self._next()
        try:
            count = channel.send(data)
        except Exception:  # noqa: BLE001 - as in `_drain`
            with self._lock:
                if self._backlog:
                    self._drop_first_line()
        else:
            with self._lock:
                if self._backlog:
                    self._advance(count)
