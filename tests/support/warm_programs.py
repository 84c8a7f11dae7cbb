"""A folder for the PATH of shell lines, with `issuer` and `python` that need not start and import first.

An interpreter that imports `issuer` takes a second of CPU. Tests of a start as users know it leave the folder out.
"""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cached_property
from pathlib import Path

from issuer.signing import encryption
from support.server_pool import SERVERS, Process
from support.servers import eventually

ROUNDS = "ROUNDS_OF_THE_TEST"
PROGRAM = Path(__file__).with_name("warm_program.py")


class WarmPrograms:
    """Starts the driver at first use."""

    def environment(self, path: str | None = None) -> dict[str, str]:
        """Return the environment of this process with the programs before `path`.

        They encrypt keys with as many rounds as this process, so that keys are as cheap.
        """
        programs = f"{self.folder}:{path or os.environ['PATH']}"
        return {**os.environ, "PATH": programs, ROUNDS: str(encryption.ROUNDS)}

    @property
    def issuer(self) -> str:
        """The path of `issuer`."""
        return str(self.folder / "issuer")

    @property
    def python(self) -> str:
        """The path of `python`."""
        return str(self.folder / "python")

    @cached_property
    def folder(self) -> Path:
        """The folder with the programs."""
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        atexit.register(shutil.rmtree, folder)
        text = f"#!{sys.executable} -IS\n{PROGRAM.read_text('utf-8')}"
        for name in ("issuer", "python"):
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(0o755)
        path = folder / "socket"
        streams = [os.devnull, str(folder / "log"), str(folder / "log")]
        arguments = ["--production", str(path)]
        driver = SERVERS.start(
            "support.warm_driver", arguments, folder=folder, environment=os.environ, streams=streams
        )
        atexit.register(_end, driver)
        eventually(path.exists, "the driver listens")
        return folder


def _end(driver: Process) -> None:
    driver.terminate()
    driver.wait()


PROGRAMS = WarmPrograms()
