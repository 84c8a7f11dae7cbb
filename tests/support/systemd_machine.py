"""A machine that boots systemd: a container of this machine's system, whose changes are discarded.

What an installation in it promises is tested in `servers/test_deployed`.
"""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from support.components import not_possible, require, require_root

NEEDED = ("systemd-nspawn", "git", "OpenSSL", "curl")
BOOT_SECONDS = 240.0
POLL_SECONDS = 0.1
GIVEN = "/given"
"""Where the given folder is mounted in the machine."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT = """
mount --bind / "$1"
exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --console=pipe --private-network \
  --directory="$1" --volatile=overlay --bind-ro="$2:/given" --machine="issuer-test-$$" \
  --boot systemd.unit=basic.target
"""
"""The name under which nspawn boots from /. Services of the system itself stay off."""


def require_machine() -> None:
    """Skip the test where no machine can be booted, but fail in CI."""
    for component in NEEDED:
        require(component)
    require_root()


class Machine:
    """A booted machine with loopback only, and `given` to read; in `with`: it ends with the block.

    `folder` is empty, and for the machine's own use.
    """

    def __init__(self, folder: Path, given: Path) -> None:
        require_machine()
        self._root, self._log = folder / "root", folder / "boot.log"
        self._root.mkdir()
        self._given = given

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation=private",
                 "bash", "-euc", BOOT, "boot", str(self._root), str(self._given)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self._wait_until_booted()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, script: str, *, stdin: str = "", check: bool = True) -> str:
        """Run lines of bash as root in the machine, and return their output; fail if one of them fails."""
        done = self._bash(script, stdin)
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a program in the machine, connected to pipes."""
        return subprocess.Popen(
            [*self._inside(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def show(self, unit: str) -> Mapping[str, str]:
        """Return systemd's properties of a unit."""
        lines = self.run(f"systemctl show {unit}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _bash(self, script: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [*self._inside(), "bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self._leader()}", "--all", "env", "-i", f"PATH={PATH}", "HOME=/root"]

    def _leader(self) -> int:
        """Return the process id of the machine's init, or 0."""
        found = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(found[0]) if found else 0

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                not_possible(f"no machine boots here: {self._log.read_text('utf-8', 'replace')}")
            if self._leader() and self._bash("systemctl is-active basic.target").returncode == 0:
                return
            time.sleep(POLL_SECONDS)
        pytest.fail(f"it did not boot: {self._log.read_text('utf-8', 'replace')}")

    def _end(self) -> None:
        self._process.terminate()  # nspawn powers the machine off
        try:
            self._process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
