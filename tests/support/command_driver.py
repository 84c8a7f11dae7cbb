"""A program that runs commands of `issuer` for `command_runner` and `command_pool`, and servers for `server_pool`.

It imports them once and forks for each; the child's streams are opened like by the interpreter at its start.
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import issuer.cli
from issuer.cli import clients, commands
from issuer.signing import encryption

OF_ALL = (
    "sqlalchemy.dialects.sqlite",
    "passlib.handlers.argon2",
    "passlib.handlers.bcrypt",
    "passlib.handlers.pbkdf2",
    "passlib.handlers.scrypt",
    "rich._unicode_data.unicode17-0-0",
    "typer._adapters",
)
"""What commands and servers import later."""
OF_SERVERS = (
    "anyio._backends._asyncio",
    "issuer.serving.connections",
    "issuer.serving.supervisor",
    "issuer.serving.worker",
    "multiprocessing.popen_forkserver",
    "support.fork_servers",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvloop",
    "verifier_example.app",
)

if "--production" not in sys.argv:
    # Of hundreds of commands: they open keys, which have as few rounds, and wait for nodes, which do not run.
    encryption.ROUNDS = 2048  # type: ignore[misc]
    clients.MEMORY = timedelta(0)  # type: ignore[attr-defined] # where it was imported to


def stream(number: int, mode: str, encoding: str, errors: str) -> Any:
    """Return the stream that the interpreter makes of a file descriptor at its start: None for a closed one."""
    try:
        os.fstat(number)
    except OSError:
        return None
    binary: Any = io.FileIO(number, mode, closefd=False)
    buffered = io.BufferedReader(binary) if mode == "r" else io.BufferedWriter(binary)
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=number == 2)


def connect(number: int, to: str | int | None) -> None:
    """Connect a file descriptor to a file, to what another has open, or to a pipe without a reader; or close it."""
    if to is None:
        os.close(number)
        return
    if isinstance(to, int):
        there = to
    elif to == "broken":
        reader, there = os.pipe()
        os.close(reader)
    else:
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        there = os.open(to, mode, 0o600)
    os.dup2(there, number)
    if there != number:
        os.close(there)


def child(case: Any) -> int:
    if case.get("alone"):  # the environment is given whole
        os.environ.clear()
    os.environ.update({name: value for name, value in case["environment"].items() if value is not None})
    for name in [name for name, value in case["environment"].items() if value is None]:
        os.environ.pop(name, None)
    if rounds := os.environ.pop("ROUNDS_OF_THE_TEST", ""):
        encryption.ROUNDS = int(rounds)  # type: ignore[misc] # as in the process of the test, which reads the keys
    os.umask(case.get("umask", os.umask(0)))
    os.chdir(case["folder"])
    if case.get("gone"):
        gone = Path("gone")
        gone.mkdir()
        there = gone.absolute()
        os.chdir(gone)
        there.rmdir()
    for number in (0, 1, 2):
        connect(number, case["streams"][number])
    encoding = case.get("encoding", "utf-8")
    sys.stdin = stream(0, "r", encoding, "strict")
    sys.stdout = stream(1, "w", encoding, "strict")
    sys.stderr = stream(2, "w", encoding, "backslashreplace")
    program = case.get("program", "issuer")
    sys.argv = [program, *case["arguments"]]
    if "program" in case:
        prepare_server(case)
    try:
        if program == "issuer":
            issuer.cli.main()
        else:
            runpy.run_module(program, run_name="__main__")
            return 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - any exception is reported
        report(case)
    return 99


def prepare_server(case: Any) -> None:
    """Do what an interpreter does at its start, and forget what the environment of the driver decided."""
    from support import fork_servers  # noqa: PLC0415 - commands need none

    tempfile.tempdir = None
    main = ModuleType("__main__")  # what `python -m issuer.cli` runs, which workers do not import
    main.__spec__ = find_spec("issuer.cli.__main__")
    sys.modules["__main__"] = main
    fork_servers.share_values_as_at_import()
    if case.get("prelude"):
        exec(case["prelude"], {})  # noqa: S102 - of a test, which changes what it cannot set
    if case.get("workers", 1) > 1:
        fork_servers.keep_copy()


def report(case: Any) -> None:
    """Write the traceback where the case says, or as the interpreter does."""
    if "umask" in case:
        traceback.print_exc()
    else:
        Path(case.get("traceback") or f"{case['folder']}/traceback").write_text(traceback.format_exc())


def forked(case: Any) -> int:
    """Run a case in a child, and return its pid."""
    process = os.fork()
    if process:
        return process
    code = 98
    try:
        if "program" in case:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            for each in case.get("closed", []):
                os.close(each)
            os.setsid()
        code = child(case)
        threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as the interpreter does at its end
        atexit._run_exitfuncs()
        for each in (sys.stdout, sys.stderr):
            each.flush()
    finally:
        os._exit(code)


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def build_once() -> None:
    """Build the commands and their options before the forks, as each does again from the functions."""
    built = typer.main.get_command(commands.app)
    build = typer.main.get_command
    typer.main.get_command = lambda app: built if app is commands.app else build(app)  # type: ignore[assignment]


def import_once(names: Iterable[str]) -> None:
    """Import what forked processes share, and leave it out of their garbage collections."""
    for name in names:
        with suppress(ModuleNotFoundError):  # private ones have other names in other versions
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(exits: Path) -> None:
    """Start the servers that the lines of stdin describe; write the exit code of each to a file named by its pid."""
    sys.path[0] = str(Path(__file__).parents[1])

    def note_ended(*_: object) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                new = exits / f"{ended[0]}.new"  # of each, as this handler may interrupt itself
                new.write_text(str(os.waitstatus_to_exitcode(ended[1])))
                new.rename(exits / str(ended[0]))

    import_once(OF_SERVERS)
    signal.signal(signal.SIGCHLD, note_ended)
    for line in sys.stdin:
        answer(forked(json.loads(line)))


def main() -> None:
    build_once()
    import_once(OF_ALL)
    if "--servers" in sys.argv:
        serve(Path(sys.argv[-1]))
        return
    for line in sys.stdin:
        _, status = os.waitpid(forked(json.loads(line)), 0)
        answer(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
