"""Owns that the shell lines of the documents run as they stand, in their order, against real servers.

Only ports and the address of a database are replaced. Which documents have lines, and in which languages, is told in
`test_documents`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from postgresql import new_database, temporary_server
from running import free_port
from softhsm import require_softhsm

DOCS = Path(__file__).parents[2] / "docs"
MOST_SECONDS = 120
BACKGROUND = "jobs -p | xargs -r kill 2>/dev/null; wait"
"""What the lines leave running is the shell's own, and ends with it."""


def sections(name: str) -> dict[str, str]:
    """Return the bash lines under each heading of a document."""
    text = (DOCS / name).read_text("utf-8")
    _, *parts = re.split(r"^##+ (.*)$", text, flags=re.MULTILINE)
    found = {
        heading: "".join(re.findall(r"^```bash\n(.*?)^```$", body, re.MULTILINE | re.DOTALL))
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }
    above = "".join(re.findall(r"^```bash\n(.*?)^```$", re.split(r"^## ", text, flags=re.M)[0], re.M | re.S))
    return {"": above, **found}


START = sections("start.md")
CLIENTS = sections("clients.md")
OPERATE = sections("operate.md")
RUNNING = ["Configure", "Start the issuer", "Add a user and a client"]
"""What of the start the other documents begin with."""
POSTGRESQL = ["From files to PostgreSQL"]
HSM = ["Keys in an HSM", "From files to an HSM"]
APART = [*POSTGRESQL, *HSM]


def prelude() -> str:
    return "".join(START[name] for name in RUNNING)


def run(lines: str, folder: Path, replaced: Mapping[str, str] | None = None) -> str:
    """Run the lines in `folder` as one shell would, and return all that they print; fail at the first that fails."""
    ports = {"127.0.0.1:8000": f"127.0.0.1:{free_port()}", "127.0.0.1:8001": f"127.0.0.1:{free_port()}"}
    ports |= {f"--port {old[-4:]}": f"--port {new.rpartition(':')[2]}" for old, new in ports.items()}
    for old, new in {**ports, **(replaced or {})}.items():
        lines = lines.replace(old, new)
    script = f"set -euxo pipefail\ntrap '{BACKGROUND}' EXIT\n{lines}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ISSUER_", "VERIFIER_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    logs = "".join(path.read_text("utf-8", "replace") for path in folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{logs}"
    assert "Traceback" not in logs
    return done.stdout


def test_getting_started_comes_to_a_service_that_notices_no_rotation(tmp_path: Path) -> None:
    printed = run("".join(START.values()), tmp_path)
    assert '{"message":"Hello, alice"}' in printed
    assert printed.count('[{"id":1,"name":"a first item"}') == 3
    assert "HTTP/1.1 401 Unauthorized" in printed
    kids = re.findall(r'"alg":"RS256","kid":"([\w-]+)","typ":"at\+jwt"', printed)
    assert len(set(kids)) == 2
    assert not list(tmp_path.rglob("*.pending"))


def test_each_line_for_clients_runs(tmp_path: Path) -> None:
    printed = run(prelude() + "".join(CLIENTS.values()), tmp_path)
    answers = re.findall(r'^\{"access_token".*$', printed, re.MULTILINE)
    assert len(answers) == 5
    assert '"scope":"items:read items:write"' in answers[0]
    assert '"scope":"items:read"' in answers[2]
    assert '{"active":false}' in printed


def test_each_runbook_runs(tmp_path: Path) -> None:
    lines = "".join(text for name, text in OPERATE.items() if name not in APART)
    printed = run(prelude() + lines, tmp_path)
    assert "is revoked; " in printed
    assert printed.count('{"access_token"') == 1
    assert "is PKCS#8 PEM, under the passphrase" in printed
    assert "$argon2id$" in (tmp_path / "users.txt").read_text("utf-8")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    with TemporaryDirectory() as folder, temporary_server(Path(folder)) as server:
        yield new_database(server)


def test_files_move_to_postgresql_with_all_that_is_in_them(tmp_path: Path, postgresql_url: str) -> None:
    lines = after(["Routine rotation"], POSTGRESQL)
    printed = run(lines, tmp_path, {"postgresql://issuer@db.example/issuer": postgresql_url})
    assert printed.count("private keys sign") == 1
    assert "the audit is whole: 5 entries" in printed
    assert re.search(r"^alice +items:read", printed, re.MULTILINE)
    assert "in the database, encrypted" in (tmp_path / "issuer.log").read_text("utf-8")


def test_files_move_to_an_hsm(tmp_path: Path) -> None:
    require_softhsm()
    printed = run(after([], HSM), tmp_path)
    assert "all 2 private keys sign" in printed
    assert "in the PKCS#11 token issuer" in (tmp_path / "issuer.log").read_text("utf-8")


def after(before: Sequence[str], names: Sequence[str]) -> str:
    """Return the lines of the runbooks `names`, after a start and those of `before`."""
    return prelude() + "".join(OPERATE[name] for name in [*before, *names])
