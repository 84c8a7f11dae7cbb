"""Attempts what the sandbox of the service should prevent, and prints what succeeded; runs instead of the service.

Its results are checked in `servers/test_deployed`. It stands alone: the service's own Python runs it.
"""

import json
import mmap
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def refused(what: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    """Return whether the kernel prevents the call."""
    try:
        what(*arguments, **named)
    except OSError:
        return True
    return False


def writable() -> Iterator[str]:
    """Yield each folder in which a file can be created."""
    for folder, folders, _ in os.walk("/"):
        if folder in {"/proc", "/sys"}:
            folders.clear()
        elif not refused(Path(folder, "a probe").touch):
            Path(folder, "a probe").unlink()
            yield folder


def executable(folder: str) -> bool:
    """Return whether a program written to the folder can be executed."""
    program = Path(folder, "a program")
    try:
        program.write_text("#!/bin/sh")
        program.chmod(0o700)
        return not refused(subprocess.run, [program], check=False)
    except OSError:  # a message queue cannot be executed
        return False
    finally:
        program.unlink(missing_ok=True)


if __name__ == "__main__":
    written = list(writable())
    found = {
        "written": written,
        "executed": [folder for folder in written if executable(folder)],
        "allowed": [
            name
            for name, is_refused in {
                "memory to write and execute": refused(
                    mmap.mmap, -1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC
                ),
                "a netlink socket": refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
                "a packet socket": refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
                "another account": refused(os.setuid, 0),
                "the files of root": refused(os.listdir, "/root"),
            }.items()
            if not is_refused
        ],
        "processes": [path.name for path in Path("/proc").glob("[0-9]*") if path.name != str(os.getpid())],
    }
    print(json.dumps(found))  # noqa: T201
