"""The results of a run: one JSON document with every value, the machine and the versions.

`report` shows them.
"""

import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.backends.openssl import backend
from rounds import Bench, Curve, Findings
from servers import NODE, PEERS, Missing, program

FOLDER = Path(__file__).resolve().parent / "results"
LATEST = FOLDER / "latest.json"
"""Of any run, and never committed; the one that docs/performance.md shows bears its date."""
DIGITS = 4
QUIET = 0.2
PACKAGES = (
    "jwks-issuer",
    "cryptography",
    "fastapi",
    "uvicorn",
    "SQLAlchemy",
    "psycopg",
    "argon2-cffi",
    "PyJWT",
)
PEER_PACKAGES = ("oidc-provider", "jose")
TOOLS = {
    "wrk": (["wrk", "--version"], "wrk"),
    "nginx": (["nginx", "-v"], "nginx-light"),
    "openssl": (["openssl", "version"], "openssl"),
}


@dataclass(frozen=True)
class Results:
    """A run."""

    began: str
    full: bool
    rounds: int
    seconds: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    others: float
    """How many cores others kept busy on average; times and rates are worth little beyond `QUIET`."""
    skipped: list[str]
    cases: Mapping[str, Findings]

    @property
    def rows(self) -> dict[str, float | None]:
        """Every row of the targets that was measured."""
        return {row: value for each in self.cases.values() for row, value in each.rows.items()}

    @property
    def by_cpu(self) -> dict[str, float | None]:
        """The rows that compare rates, by CPU time."""
        return {row: value for each in self.cases.values() for row, value in each.by_cpu.items()}

    @property
    def curves(self) -> dict[str, Curve]:
        """Every plot, by its name."""
        return {name: curve for each in self.cases.values() for name, curve in each.curves.items()}

    @classmethod
    def of(cls, bench: Bench, began: datetime, cases: Mapping[str, Findings]) -> Self:
        """Return the results of a run that is over."""
        began_at = began.astimezone(UTC).isoformat(timespec="seconds")
        where = machine(), versions()
        others = statistics.mean(bench.others) if bench.others else 0.0
        return cls(began_at, bench.full, bench.rounds, bench.seconds, *where, others, bench.skipped, cases)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what was written."""
        document = json.loads(text)
        cases = {
            name: Findings(
                case["metrics"],
                case["rows"],
                case.get("by_cpu", {}),
                {plot: Curve(**curve) for plot, curve in case["curves"].items()},
            )
            for name, case in document.pop("cases").items()
        }
        return cls(cases=cases, **document)

    def written(self) -> str:
        """Return the document: numbers of four digits, as more would be noise."""
        return json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


def machine() -> dict[str, str]:
    """Describe the machine."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the version of everything that was measured; what is not there is left out."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    found |= {name: version(name) for name in PACKAGES}
    found["cryptography's openssl"] = backend.openssl_version_text().split(" ")[1]
    for name in PEER_PACKAGES:
        package = PEERS / "node_modules" / name / "package.json"
        if package.exists():
            found[name] = json.loads(package.read_text("utf-8"))["version"]
    if NODE.exists():
        found["node"] = _said([str(NODE), "--version"])
    for name, (command, debian) in TOOLS.items():
        try:
            found[name] = _said([program(command[0], debian), *command[1:]])
        except Missing:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    if commit.returncode == 0:
        found["commit"] = commit.stdout.strip()
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if servers:
        found["postgresql"] = _said([str(servers[-1]), "--version"])
    return found


def _said(command: list[str]) -> str:
    """Return the version in the first line of what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found above
    first = (done.stdout or done.stderr).partition("\n")[0]
    found = re.search(r"\d+(?:\.\d+)+", first)
    return found[0] if found else first
