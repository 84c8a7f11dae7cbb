"""Runs what `warm_program` passes on, each with the streams, folder and environment of the program.

It is forked by the driver of `server_pool`, which has imported everything. What it runs has a session of its own:
signals to the program are passed on, and the end of the program is the end of what it started.
"""

import marshal
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from issuer.cli import demo_servers
from support.command_driver import forked

LOOKS_SECONDS = 5.0
"""How often it looks whether its parent, and so the test run, has ended."""
OF_LENGTH = 8
STREAMS = 3


class Driver:
    """Accepts programs, passes signals on, and tells how they end."""

    def __init__(self, path: str) -> None:
        self._pid = os.getpid()
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._wakes, self._wakened = socket.socketpair()
        for each in (self._wakes, self._wakened):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakened.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakes, selectors.EVENT_READ, self._note_ended)

    def run(self) -> None:
        """Run until SIGTERM or the end of the test run, and end what runs then."""
        parent = os.getppid()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            while os.getppid() == parent:
                for key, _ in self._selector.select(LOOKS_SECONDS):
                    key.data()
        finally:
            if os.getpid() == self._pid:
                for pid in self._running:
                    _kill(pid)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        head, streams, _, _ = socket.recv_fds(connection, OF_LENGTH, STREAMS)
        text = b""
        while len(text) < int.from_bytes(head, "big"):
            if not (more := connection.recv(1 << 20)):  # it was killed meanwhile
                break
            text += more
        else:
            self._start(connection, streams, text)
        for each in streams:
            os.close(each)

    def _start(self, connection: socket.socket, streams: list[int], text: bytes) -> None:
        program, arguments, folder, environment, umask = marshal.loads(text)  # noqa: S302 - of a program of this test run
        case = {
            "program": program,
            "arguments": arguments,
            "folder": folder,
            "streams": streams,
            "environment": environment,
            "umask": umask,
            "alone": True,
        }
        # Or a program would not notice the end of this process.
        case["closed"] = [self._listener.fileno(), *(each.fileno() for each in self._running.values())]
        case["closed"].append(connection.fileno())
        pid = forked(case)
        self._running[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._pass_on(pid))

    def _pass_on(self, pid: int) -> None:
        if not (connection := self._running.get(pid)):  # it has just ended
            return
        try:
            signals = connection.recv(64)
        except ConnectionError:
            signals = b""
        for each in signals:
            with suppress(ProcessLookupError):
                os.kill(pid, each)
        if not signals:  # the program was killed
            self._selector.unregister(connection)
            _kill(pid)

    def _note_ended(self) -> None:
        self._wakes.recv(4096)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._running.pop(ended[0])
                with suppress(KeyError):
                    self._selector.unregister(connection)
                with suppress(ConnectionError):
                    connection.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "big", signed=True))
                connection.close()


def use_programs(python: str) -> None:
    """Let a demo start its servers by the programs as well."""
    sys.executable = python
    demo_servers._PYTHON = (python, *demo_servers._PYTHON[1:])


def _kill(pid: int) -> None:
    """Kill what was started, and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parents[1]))  # where modules of the tests are
    use_programs(str(Path(sys.argv[-1]).with_name("python")))
    Driver(sys.argv[-1]).run()
