"""The shell lines of documents in a real shell, with ports of their own; which documents is up to the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from support.components import require
from support.servers import PATIENCE_SECONDS, free_port
from support.warm_programs import PROGRAMS

BACKGROUND = "jobs -p | xargs -r kill 2>/dev/null; wait"
"""What the lines leave running is the shell's own, and ends with it."""


class Lines:
    """The lines of a document in one shell of its own, begun at once so that several run side by side.

    `files` of the document are in its folder. Its programs start with interpreters of their own if it `is_fresh`.
    """

    def __init__(
        self,
        lines: str,
        folder: Path,
        replaced: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        *,
        is_fresh: bool = False,
    ) -> None:
        for program in {"curl", "patch"} & set(lines.split()):
            require(program)
        self.folder = folder
        ports = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (8000, 8001)}
        ports |= {f"--port {old[-4:]}": f"--port {new.rpartition(':')[2]}" for old, new in ports.items()}
        texts = {"lines.sh": lines, **(files or {})}
        for name, written in texts.items():
            text = written
            for old, new in {**ports, **(replaced or {})}.items():
                text = text.replace(old, new)
            (folder / name).write_text(text, "utf-8")
        beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        outer = {**os.environ, "PATH": beside} if is_fresh else PROGRAMS.environment(beside)
        environment = {
            name: value for name, value in outer.items() if not name.startswith(("ISSUER_", "VERIFIER_"))
        }
        environment["VIRTUAL_ENV"] = str(Path(sys.executable).parents[1])
        with (folder / "printed").open("wb") as output:
            self._process = subprocess.Popen(
                ["bash", "-c", f"set -euxo pipefail\ntrap '{BACKGROUND}' EXIT\nsource lines.sh"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @cached_property
    def printed(self) -> str:
        """All that the lines print; fails if one of them does."""
        self._process.wait(PATIENCE_SECONDS)
        printed = (self.folder / "printed").read_text("utf-8", "replace")
        assert self._process.returncode == 0, f"{printed}\n{self.logs}"
        assert "Traceback" not in self.logs
        return printed

    @property
    def logs(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in self.folder.glob("*.log"))

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
