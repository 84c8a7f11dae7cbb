"""Runs every command of `issuer` in copies of one installation, with any streams, encoding and folder.

The commands are forked from one process, `command_driver`, which has imported them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from support.servers import PASSPHRASE

PASSWORD = "violet otters juggle pancakes"
DRIVER = Path(__file__).with_name("command_driver.py")
FULL, BROKEN = "/dev/full", "broken"

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "check": [],
    "move": ["--dry-run", "--to-file", "target"],
    "keys list": [],
    "keys plan": [],
    "keys nodes": [],
    "keys verifiers": [],
    "keys verify": [],
    "keys rotate": ["--dry-run", "--force", "--reason", "a test"],
    "keys rollback": ["--dry-run"],
    "keys revoke": ["nosuchkid", "--reason", "a test", "--yes"],
    "keys import": ["missing.pem"],
    "keys recover": ["--reason", "a test", "--dry-run"],
    "keys rewrap": ["--new-passphrase-file", "passphrase"],
    "audit list": [],
    "audit export": [],
    "audit head": [],
    "audit sessions": [],
    "audit verify": [],
    "users add": ["zoë", "--password-stdin"],
    "users list": [],
    "users show": ["alice"],
    "users sessions": ["alice"],
    "users unlock": ["alice"],
    "users grant": ["alice", "--scope", "items:read"],
    "users revoke-scope": ["alice", "--scope", "items:write"],
    "users revoke-role": ["alice", "--role", "support"],
    "users set": ["alice", "department=Café"],
    "users delete": ["alice", "--yes"],
    "users set-profile": ["alice", "--name", "Zoë A."],
    "users set-password": ["alice", "--password-stdin"],
    "users reset-link": ["alice"],
    "users invite": ["zoë"],
    "users disable": ["alice"],
    "users enable": ["alice"],
    "users import": ["users.csv", "--dry-run"],
    "roles set": ["support", "tickets:read"],
    "roles list": [],
    "roles delete": ["admin", "--yes"],
    "clients add": ["mächine"],
    "clients list": [],
    "clients show": ["CLIENT"],
    "clients set": ["CLIENT", "--add-scope", "items:read"],
    "clients delete": ["CLIENT", "--yes"],
    "clients rotate-secret": ["CLIENT"],
    "clients require-pkce": ["CLIENT"],
    "clients disable": ["CLIENT"],
    "clients enable": ["CLIENT"],
    "resources add": ["https://api.example/"],
    "resources list": [],
    "resources remove": ["https://tools.example"],
    "token inspect": ["nonsense"],
}


class Ran(NamedTuple):
    """The result of a command, as a shell sees it."""

    code: int
    out: str
    err: str


class Runner:
    """Runs commands in copies of one installation."""

    def __init__(self, origin: Path, client_id: str, scratch: Path) -> None:
        self.origin, self.client_id, self._scratch, self._number = origin, client_id, scratch, 0
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ISSUER_")}
        self._process = subprocess.Popen(
            [sys.executable, str(DRIVER)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *more: str, folder: Path | None = None, **surroundings: Any) -> Ran:
        """Run one command in a new copy of the installation, or in `folder`."""
        self._number += 1
        folder = folder or Path(shutil.copytree(self.origin, self._scratch / str(self._number)))
        streams = self._scratch / f"{self._number}.streams"
        streams.mkdir()
        (streams / "in").write_text(f"{PASSWORD}\n")
        given = {0: str(streams / "in"), 1: str(streams / "out"), 2: str(streams / "err")}
        words = [self.client_id if word == "CLIENT" else word for word in ARGUMENTS.get(command, [])]
        case = {
            "folder": str(folder),
            "arguments": [*command.split(), *words, *more],
            "streams": [
                surroundings.get(name, given[n]) for n, name in enumerate(("stdin", "stdout", "stderr"))
            ],
            "encoding": surroundings.get("encoding", "utf-8"),
            "gone": surroundings.get("gone", False),
            "environment": {"ISSUER_KEYS_PASSPHRASE": PASSPHRASE, **surroundings.get("environment", {})},
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out, err = (self._text(streams / name) for name in ("out", "err"))
        broken = Path(folder, "traceback")
        assert not broken.exists(), (command, broken.read_text())
        assert "Traceback" not in err, (command, err)
        assert "Exception ignored" not in err, (command, err)
        assert code in {0, 1, 2, 3, 4}, (command, code, err)
        return Ran(code, out, err)

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
