"""An installation that a scenario breaks, and the table of scenarios by kind of fix."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from issuer.fixes import Kind
from support.installation import PASSPHRASE, Deployment
from support.postgresql import new_database

NOBODY = 65534


@dataclass
class Stage:
    """An installation that is well, for a scenario to break."""

    deployment: Deployment
    request: pytest.FixtureRequest
    fills: dict[str, str] = field(default_factory=dict)
    """What an operator fills in."""
    then: Callable[[], object] = lambda: None
    """What the fix cannot do in a test: undo a patch, set the clock that a stub was asked to."""

    @property
    def env(self) -> Path:
        return self.deployment.folder / ".env"

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        self.env.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.env.chmod(mode)

    def postgresql(self, options: str = "") -> str:
        return new_database(self.request.getfixturevalue("postgresql"), options)

    def back_up(self) -> None:
        shutil.copy(self.deployment.folder / "issuer.db", self.deployment.folder / "backup.db")
        self.fills["BACKUP"] = "backup.db"

    def passphrase_file(self, text: str | bytes = PASSPHRASE, name: str = "passphrase") -> Path:
        path = self.deployment.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        self.deployment.patch.delenv("ISSUER_KEYS_PASSPHRASE", raising=False)
        self.deployment.set(ISSUER_KEYS_PASSPHRASE_FILE=name)
        return path

    def key(self) -> Path:
        return min(self.deployment.keys.glob("*.pem"))

    def without_keys(self) -> None:
        shutil.rmtree(self.deployment.keys)
        for path in self.deployment.folder.glob("issuer.db*"):
            path.unlink()


Break = Callable[[Stage], None]
SCENARIOS: dict[Kind, Break] = {}


def as_an_ordinary_user(stage: Stage, closed: Path) -> None:
    """Let root be refused what it may not write by the mode of the file."""
    real = os.access

    def access(path: Path, mode: int) -> bool:
        return bool(closed.stat().st_mode & 0o200) if Path(path) == closed else real(path, mode)

    if os.geteuid() == 0:
        stage.deployment.patch.setattr(os, "access", access)


def scenario(kind: Kind) -> Callable[[Break], Break]:
    def known(function: Break) -> Break:
        assert kind not in SCENARIOS
        SCENARIOS[kind] = function
        return function

    return known


def setting(kind: Kind, **settings: str) -> None:
    SCENARIOS[kind] = lambda stage: stage.deployment.set(**settings)


def stub(stage: Stage, name: str, text: str) -> None:
    """Put a program that this machine lacks, or that would change it, before the others."""
    programs = stage.deployment.folder / "programs"
    programs.mkdir(mode=0o700, exist_ok=True)
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o700)
    stage.deployment.patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
