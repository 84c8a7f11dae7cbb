"""An installation in a folder, for tests that damage it, run the fix that `issuer check` prints, and check again."""

import os
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from issuer.checks.finding import Finding, Severity
from issuer.checks.installation import CheckResult, run_checks
from issuer.clock import Clock, system_clock
from issuer.settings.loading import load_settings
from issuer.wiring import build
from support.components import require
from support.server_pool import SERVERS
from support.servers import PATIENCE_SECONDS, eventually, free_port, is_free
from support.warm_programs import PROGRAMS

PASSPHRASE = "sixteen silent penguins"
SETTINGS = {"ISSUER_ALGORITHM": "ES256", "ISSUER_KEYS_PASSPHRASE": PASSPHRASE}
REACHABLE = {
    "ISSUER_URL": "https://issuer.example",
    "ISSUER_TRUSTED_PROXIES": "127.0.0.1",
    "ISSUER_METRICS_TOKEN": "a token of sixteen characters",
    "ISSUER_REGISTRATION": "closed",
}


@dataclass
class Deployment:
    """An installation in the working directory of the test, with settings in its environment or `.env`."""

    folder: Path
    patch: pytest.MonkeyPatch
    clock: Clock = system_clock

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.patch.setenv(name, value)

    def found(self) -> list[Finding]:
        return [finding for result in self.check() for finding in result.findings]

    def check(self) -> list[CheckResult]:
        return list(run_checks(self.clock))

    def one(self, severity: Severity = Severity.PROBLEM) -> Finding:
        (finding,) = self.found()
        assert finding.severity is severity, finding
        assert finding.fix.line
        return finding

    def apply(self, line: str, *, must_work: bool = True) -> None:
        """Apply the fix of a finding: add a line to `.env`, or run a command; exported variables stay set."""
        if is_setting(line):
            name, _, value = line.partition("=")
            self.set(**{name: shlex.split(value)[0] if value else ""})
        elif line == "issuer serve":
            self._serve()
        else:
            self._run(line, must_work=must_work)

    def _run(self, line: str, *, must_work: bool) -> None:
        if line.startswith("psql "):
            require("psql")
        lines = f"trap 'env -0 >exported' EXIT\n{line}"
        environment = PROGRAMS.environment()
        done = subprocess.run(["bash", "-uc", lines], cwd=self.folder, env=environment, check=False)
        assert done.returncode not in {126, 127}, f"there is no such command: {line}"
        assert done.returncode == 0 or not must_work, line
        exported = (self.folder / "exported").read_bytes().decode().split("\0")
        (self.folder / "exported").unlink()
        after = dict(each.split("=", 1) for each in exported if each.upper().startswith("ISSUER_"))
        for name in [name for name in os.environ if name.upper().startswith("ISSUER_")]:
            if name not in after:
                self.patch.delenv(name)
        self.set(**after)

    def _serve(self) -> None:
        """Run an issuer until it is ready, then stop it."""
        port = free_port()
        process = SERVERS.start(
            "issuer",
            ["serve", "--port", str(port)],
            folder=self.folder,
            environment=PROGRAMS.environment(),
            streams=[os.devnull, *[str(self.folder / "served.log")] * 2],
        )
        try:
            eventually(lambda: not is_free(port), "the issuer listens")
            url = f"http://127.0.0.1:{port}/readyz"
            eventually(lambda: httpx2.get(url, trust_env=False).is_success, "it is ready")
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)

    def require_fixed(self, finding: Finding) -> None:
        self.apply(finding.fix.line)
        assert self.found() == []

    def make(self) -> None:
        """Start an issuer once, which creates database, key ring and keys."""
        issuer = build(load_settings())
        issuer.keys.node.refresh()
        issuer.close()

    def change(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "issuer.db")) as connection, connection:
            connection.execute(statement, values)


def is_setting(line: str) -> bool:
    """Whether a fix is a line for `.env`."""
    name, equals, _ = line.partition("=")
    return bool(equals) and name.startswith("ISSUER_") and name.replace("_", "").isalnum()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    tmp_path.chmod(0o700)
    deployment = Deployment(tmp_path, monkeypatch)
    deployment.set(**SETTINGS)
    return deployment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with database, key ring and keys, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Deployment(folder, patch)
        made.set(**SETTINGS)
        made.make()
        assert {each.name for each in made.check()} > {"key ring", "audit"}
    return folder


@pytest.fixture
def deployment(empty: Deployment, installed: Path) -> Deployment:
    """An installation without problems."""
    shutil.copytree(installed, empty.folder, dirs_exist_ok=True)
    empty.folder.chmod(0o700)
    return empty
