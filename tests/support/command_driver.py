"""A program that runs commands of `issuer` for `command_runner` and `command_pool`, in any surroundings.

It imports the commands once and forks for each; the child's streams are opened like by the interpreter at its start.
"""

import atexit
import io
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import issuer.cli
from issuer.cli import commands  # noqa: F401 - imported once, before the forks
from issuer.signing import encryption

if "--production" not in sys.argv:
    encryption.ROUNDS = 2048  # type: ignore[misc] # hundreds of commands open keys, which have as few rounds


def stream(number: int, mode: str, encoding: str, errors: str) -> Any:
    """Return the stream that the interpreter makes of a file descriptor at its start: None for a closed one."""
    try:
        os.fstat(number)
    except OSError:
        return None
    binary: Any = io.FileIO(number, mode, closefd=False)
    buffered = io.BufferedReader(binary) if mode == "r" else io.BufferedWriter(binary)
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=number == 2)


def connect(number: int, to: str | None) -> None:
    """Connect a file descriptor to a file or to a pipe without a reader, or close it."""
    if to is None:
        os.close(number)
        return
    if to == "broken":
        reader, there = os.pipe()
        os.close(reader)
    else:
        there = os.open(to, os.O_RDWR | os.O_CREAT, 0o600)
    os.dup2(there, number)
    if there != number:
        os.close(there)


def child(case: Any) -> int:
    if case.get("alone"):  # the environment is given whole
        os.environ.clear()
    os.environ.update({name: value for name, value in case["environment"].items() if value is not None})
    for name in [name for name, value in case["environment"].items() if value is None]:
        os.environ.pop(name, None)
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
    sys.argv = ["issuer", *case["arguments"]]
    try:
        issuer.cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - any exception is reported
        Path(case.get("traceback") or f"{case['folder']}/traceback").write_text(traceback.format_exc())
    return 99


def main() -> None:
    for line in sys.stdin:
        process = os.fork()
        if not process:
            code = 98
            try:
                code = child(json.loads(line))
                atexit._run_exitfuncs()
                for each in (sys.stdout, sys.stderr):
                    each.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
