"""The lines of docs/backup.md do what they say: saved, restored, recovered and checked, on both databases."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.postgresql import binaries, new_database
from support.warm_programs import PROGRAMS

from issuer.cli.terminal import short_kid
from issuer.keyring.ring import KeyRing, Phase
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.wiring import build

DOCUMENT = (Path(__file__).parents[2] / "docs" / "backup.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL)
SETTINGS = {"ISSUER_ALGORITHM": "ES256", "ISSUER_KEYS_PASSPHRASE": "sixteen silent penguins"}


def block(names: str) -> str:
    """Return the one block of lines that names this."""
    (found,) = (each for each in BLOCKS if names in each)
    return str(found)


@dataclass
class Operator:
    folder: Path

    def run(self, lines: str, code: int = 0) -> str:
        """Run lines as they stand; fail unless the last ends so."""
        path = f'export PATH="$PATH:{binaries()}"\n'
        done = subprocess.run(
            ["bash", "-uc", path + lines],
            cwd=self.folder,
            env=PROGRAMS.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done
        return done.stdout

    def serve_once(self) -> KeyRing:
        """Let a node start and stop."""
        issuer = build(load_settings())
        try:
            return issuer.keys.node.refresh().ring
        finally:
            issuer.close()

    def revoke_current(self) -> str:
        """Revoke the key that signs, and return its kid."""
        issuer = build(load_settings())
        try:
            return revoke_current(issuer)
        finally:
            issuer.close()


def revoke_current(issuer: Issuer) -> str:
    kid = issuer.keys.rotation.ring().current(issuer.clock()).kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now))
    return kid


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    tmp_path.chmod(0o700)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return Operator(tmp_path)


@pytest.mark.processes
def test_the_newest_backup_is_restored_and_all_is_well(operator: Operator) -> None:
    ring = operator.serve_once()
    assert "the audit log is intact" in operator.run(block("VACUUM INTO"))
    operator.run("rm -rf keys issuer.db*")
    operator.run(block("cp -pR backup/keys/"))
    assert operator.run(block("cp -p backup/issuer.db")).endswith("no problems found\n")
    assert operator.serve_once().keys == ring.keys


@pytest.mark.processes
def test_an_older_backup_is_reported_and_the_ring_is_recovered(operator: Operator) -> None:
    operator.serve_once()
    operator.run(block("VACUUM INTO"))
    stolen = operator.revoke_current()
    newest = operator.serve_once()
    printed = operator.run(block("cp -p backup/issuer.db"), code=1)
    assert short_kid(stolen) in printed
    assert "    issuer keys recover --reason TEXT\n" in printed
    assert operator.run(block("issuer keys recover --dry-run")).endswith("no problems found\n")
    ring = operator.serve_once()
    assert ring.keys == newest.keys
    assert ring.phase(ring.find(stolen), ring.changed_at) is Phase.REVOKED


@pytest.mark.processes
def test_without_any_backup_of_the_database_the_ring_is_recovered(operator: Operator) -> None:
    newest = operator.serve_once()
    operator.run("rm issuer.db*")
    operator.run(block("issuer keys recover --dry-run"))
    assert operator.serve_once().keys == newest.keys


def test_a_postgresql_with_its_keys_is_saved_and_restored(
    operator: Operator, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_DATABASE_URL", new_database(postgresql))
    monkeypatch.setenv("ISSUER_KEYS", "database")
    ring = operator.serve_once()
    operator.run(block("pg_dump"))
    operator.run(block("> head"))
    assert operator.run(block("pg_restore")).endswith("no problems found\n")
    operator.run(block("--noted"))
    operator.revoke_current()
    operator.run(block("> head"))
    assert operator.run(block("pg_restore")).endswith("no problems found\n")
    operator.run(block("--noted"), code=1)  # only the head that was noted elsewhere reveals it
    assert operator.serve_once().keys == ring.keys
