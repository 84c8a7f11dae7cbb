"""An installation in a folder, for the tests that break it, run what `issuer check` prints, and look again."""

import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from issuer.checks.finding import Finding, Severity
from issuer.checks.site import Looked, look
from issuer.settings import load_settings
from issuer.wiring import build
from issuer.wiring import clock as present

PASSPHRASE = "sixteen silent penguins"
SETTINGS = {"ISSUER_ALGORITHM": "ES256", "ISSUER_KEYS_PASSPHRASE": PASSPHRASE}
REACHABLE = {
    "ISSUER_URL": "https://issuer.example",
    "ISSUER_TRUSTED_PROXIES": "127.0.0.1",
    "ISSUER_METRICS_TOKEN": "a token of sixteen characters",
    "ISSUER_REGISTRATION": "closed",
}


@dataclass
class Site:
    """An installation in the working directory of the test, with settings in its environment or `.env`."""

    folder: Path
    patch: pytest.MonkeyPatch

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.patch.setenv(name, value)

    def found(self) -> list[Finding]:
        return [finding for looked in self.look() for finding in looked.findings]

    def look(self) -> list[Looked]:
        return list(look(present))

    def one(self, severity: Severity = Severity.PROBLEM) -> Finding:
        (finding,) = self.found()
        assert finding.severity is severity, finding
        assert finding.fix.line
        return finding

    def apply(self, line: str) -> None:
        """Do what a finding says: set a line for `.env`, run everything else; what it exports stays."""
        if is_setting(line):
            name, _, value = line.partition("=")
            self.set(**{name: shlex.split(value)[0] if value else ""})
            return
        issuer = f'issuer() {{ "{sys.executable}" -m issuer.cli "$@"; }}\n'
        names = subprocess.run(
            ["bash", "-euc", f"{issuer}{line}\nexec 3>exported; env -0 >&3"], cwd=self.folder, check=True
        )
        assert names.returncode == 0
        exported = (self.folder / "exported").read_bytes().decode().split("\0")
        (self.folder / "exported").unlink()
        after = dict(each.split("=", 1) for each in exported if each.upper().startswith("ISSUER_"))
        for name in list(os.environ):
            if name.upper().startswith("ISSUER_") and name not in after:
                self.patch.delenv(name)
        self.set(**after)

    def require_fixed(self, finding: Finding) -> None:
        self.apply(finding.fix.line)
        assert self.found() == []

    def make(self) -> None:
        """Let an issuer make database, ring and keys."""
        issuer = build(load_settings())
        issuer.node.refresh()
        issuer.close()

    def change(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "issuer.db")) as connection, connection:
            connection.execute(statement, values)


def is_setting(line: str) -> bool:
    """Whether a fix is a line for `.env`."""
    name, equals, _ = line.partition("=")
    return bool(equals) and name.startswith("ISSUER_") and name.replace("_", "").isalnum()
