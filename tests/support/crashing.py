"""Crashes on purpose: a process runs a function and is killed at its n-th write, for every n.

A write is a statement that changes the database, the moments right before and after a commit, and each file that is
opened for writing, renamed, removed or given a mode. What must hold after each is checked in `test_crash_points`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Pool, event

CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE")
ON_FILES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.link"})
MOST = 300
DONE, FAILED = 0, 1


class _Executioner:
    """Counts writes, and kills the process at a given one."""

    def __init__(self, fatal: int, folder: Path) -> None:
        self._left = fatal
        self._folder = str(folder)

    def watch(self) -> None:
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", lambda _connection: self._write())
        event.listen(Pool, "checkin", lambda _connection, _record: self._write())
        sys.addaudithook(self._audit)

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(CHANGES):
            self._write()

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if (name in ON_FILES and self._folder in str(arguments[0])) or (
            name == "open" and self._folder in str(arguments[0]) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            self._write()

    def _write(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at_each_write(act: Callable[[], None], folder: Path) -> Iterator[int]:
    """Run `act` in a new process that is killed at its first write, then at its second, and so on, until it survives.

    Yield the number of the write after each kill; what the act finds must be put back by then.
    """
    for number in count(1):
        assert number < MOST, "it never comes to an end"
        pid = os.fork()
        if pid == 0:
            _Executioner(number, folder).watch()
            code = FAILED
            try:
                act()
                code = DONE
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == DONE, "the act failed by itself"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield number
