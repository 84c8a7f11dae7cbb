"""Owns that every command keeps its word in any surroundings: one clear line, the right exit code, nothing made."""

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.servers import PASSPHRASE, Installation

from issuer.cli.commands import app
from issuer.signing.encryption import pem_of

PASSWORD = "violet otters juggle pancakes"
DRIVER = Path(__file__).with_name("surroundings.py")
FULL, BROKEN = "/dev/full", "broken"
SERVERS = {"serve", "demo"}
"""They run until they are stopped, and have tests of their own."""

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "check": [],
    "move": ["--dry-run", "--to-file", "target"],
    "keys list": [],
    "keys plan": [],
    "keys nodes": [],
    "keys verify": [],
    "keys rotate": ["--dry-run", "--force", "--reason", "a test"],
    "keys rollback": ["--dry-run"],
    "keys revoke": ["nosuchkid", "--reason", "a test", "--yes"],
    "keys import": ["missing.pem"],
    "keys recover": ["--reason", "a test", "--dry-run"],
    "keys rewrap": ["--new-passphrase-file", "passphrase"],
    "audit list": [],
    "audit sessions": [],
    "audit verify": [],
    "users add": ["zoë", "--password-stdin"],
    "users list": [],
    "users grant": ["alice", "--scope", "items:read"],
    "users set-password": ["alice", "--password-stdin"],
    "users disable": ["alice"],
    "users enable": ["alice"],
    "users import": ["users.csv", "--dry-run"],
    "clients add": ["mächine"],
    "clients list": [],
    "clients rotate-secret": ["CLIENT"],
    "clients disable": ["CLIENT"],
    "clients enable": ["CLIENT"],
}
READING = [
    "check", "move", "keys list", "keys plan", "keys nodes", "keys verify", "keys rotate", "keys rollback",
    "keys recover", "audit list", "audit sessions", "audit verify", "users list", "users import", "clients list",
]  # fmt: skip
NEEDING = [
    "keys revoke",
    "keys rewrap",
    "users grant",
    "users disable",
    "users enable",
    "clients rotate-secret",
]


def commands(branch: typer.Typer = app, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the words of every command there is."""
    for each in branch.registered_commands:
        assert each.callback
        yield " ".join((*path, each.name or each.callback.__name__))
    for group in branch.registered_groups:
        assert group.typer_instance
        yield from commands(group.typer_instance, (*path, str(group.name)))


def test_every_command_is_tried_here() -> None:
    assert set(commands()) - SERVERS == set(ARGUMENTS)


class Ran(NamedTuple):
    """What a shell sees of a command."""

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
        """Run one command; a copy of the installation is made for it."""
        self._number += 1
        folder = folder or Path(shutil.copytree(self.origin, self._scratch / str(self._number)))
        beside = self._scratch / f"{self._number}.streams"
        beside.mkdir()
        (beside / "in").write_text(f"{PASSWORD}\n")
        given = {0: str(beside / "in"), 1: str(beside / "out"), 2: str(beside / "err")}
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
        out, err = (self._text(beside / name) for name in ("out", "err"))
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


@pytest.fixture(scope="module")
def runner(founded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """An installation with a user and a client, and what runs commands in copies of it."""
    folder = shutil.copytree(founded_folder, tmp_path_factory.mktemp("surroundings") / "origin")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        client_id = site.command("clients", "add", "machine", "--json").document["client_id"]
    for file in (folder / "keys").glob("*.pem"):  # under the few rounds of tests
        file.write_bytes(pem_of(load_pem_private_key(file.read_bytes(), PASSPHRASE.encode()), PASSPHRASE))
    (folder / "passphrase").write_text("another passphrase for tests\n")
    (folder / "target").write_text(f"sqlite:///{folder}/elsewhere.db\n")
    (folder / "users.csv").write_text("username,password_hash,scope\n")
    runner = Runner(folder, client_id, tmp_path_factory.mktemp("scratch"))
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def plainly(runner: Runner) -> Mapping[str, Ran]:
    """How each command ends in ordinary surroundings."""
    return {command: runner.run(command) for command in ARGUMENTS}


# Streams


def tried(plainly: Mapping[str, Ran], place: str | None) -> Iterator[tuple[str, Ran]]:
    """Yield every command for a stream that is closed; every second for each of those whose writes fail alike."""
    first, step = {FULL: (0, 2), BROKEN: (1, 2)}.get(place or "", (0, 1))
    yield from list(plainly.items())[first::step]


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("stdout", [FULL, None, BROKEN])
def test_a_result_that_cannot_be_written_is_one_line_and_a_failure(
    runner: Runner, plainly: Mapping[str, Ran], stdout: str | None, options: tuple[str, ...]
) -> None:
    for command, plain in tried(plainly, stdout):
        ran = runner.run(command, *options, stdout=stdout)
        lost = [line for line in ran.err.splitlines() if "standard output" in line]
        if plain.code == 0 or options:
            assert (ran.code, len(lost)) == (1, 1), (command, ran)
            assert lost[0].startswith("failed: cannot write to standard output: ")
        else:
            assert ran.code == plain.code, (command, ran)


@pytest.mark.parametrize("stderr", [FULL, None, BROKEN])
def test_a_message_that_cannot_be_written_changes_nothing(
    runner: Runner, plainly: Mapping[str, Ran], stderr: str | None
) -> None:
    for command, plain in tried(plainly, stderr):
        assert runner.run(command, stderr=stderr).code == plain.code, command
        assert runner.run(command, "--nonsense", stderr=stderr).code == 2, command


@pytest.mark.parametrize("stdin", [None, "/dev/null"])
def test_without_input_only_those_fail_that_need_it(
    runner: Runner, plainly: Mapping[str, Ran], stdin: str | None
) -> None:
    for command, plain in plainly.items():
        ran = runner.run(command, stdin=stdin)
        if "--password-stdin" in ARGUMENTS[command]:
            assert (ran.code, ran.err) == (1, "failed: no password on standard input\n")
        else:
            assert ran.code == plain.code, (command, ran)
    for asking in ("users add bob", "keys  rewrap", " move"):  # with none of the arguments above
        ran = runner.run(asking, stdin=stdin)
        assert (ran.code, ran.err.count("\n")) == (1, 1), ran


def test_every_encoding_will_do(runner: Runner, plainly: Mapping[str, Ran]) -> None:
    environment = {"HOME": None, "LC_ALL": "C", "USER": None}
    others = itertools.cycle(["latin-1", "cp1252", "koi8-r"])
    for command, plain in plainly.items():
        for encoding in ("ascii", next(others)):
            ran = runner.run(command, encoding=encoding, environment=environment)
            assert ran.code == plain.code, (command, encoding, ran)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r"])
def test_help_is_written_in_every_encoding(runner: Runner, encoding: str) -> None:
    assert runner.run("--help", encoding=encoding).code == 0


def test_a_plan_is_drawn_in_ascii_where_there_is_nothing_else(runner: Runner) -> None:
    drawn = runner.run("keys plan", encoding="ascii").out
    assert "####" in drawn
    assert "\\u" not in drawn
    assert "████" in runner.run("keys plan").out


def test_a_password_on_standard_input_is_utf_8_in_every_locale(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes("zwölf Boxkämpfer jagen\n".encode())
    folder = Path(shutil.copytree(runner.origin, tmp_path / "copy"))
    ran = runner.run("users set-password", folder=folder, stdin=str(tmp_path / "in"), encoding="latin-1")
    assert ran.code == 0
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.serve().until_ready()
        assert site.log_in("alice", "zwölf Boxkämpfer jagen").status_code == 200
    (tmp_path / "in").write_bytes("zwölf Boxkämpfer jagen\n".encode("latin-1"))
    ran = runner.run("users set-password", stdin=str(tmp_path / "in"))
    assert (ran.code, ran.err) == (1, "failed: the password on standard input is not UTF-8\n")


# Secrets


@pytest.mark.parametrize("stdout", ["/dev/full", None, "broken"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_client_is_left_whose_secret_nobody_has(
    runner: Runner, tmp_path: Path, stdout: str | None, options: tuple[str, ...]
) -> None:
    folder = Path(shutil.copytree(runner.origin, tmp_path / "copy"))
    before = runner.run("clients list", "--json", folder=folder).out
    ran = runner.run("clients add", *options, folder=folder, stdout=stdout)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert runner.run("clients list", "--json", folder=folder).out == before
    for overlap in ("24h", "0"):
        ran = runner.run(
            "clients rotate-secret", "--overlap", overlap, *options, folder=folder, stdout=stdout
        )
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert runner.run("clients list", "--json", folder=folder).out == before


def test_a_secret_that_was_not_delivered_is_not_the_clients(founded: Installation) -> None:
    made = founded.command("clients", "add", "machine", "--json").document
    command = (
        f"{sys.executable} -m issuer.cli clients rotate-secret {made['client_id']} --overlap 0 > /dev/full"
    )
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=founded.folder,
        env={**os.environ, **founded.settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the previous secret is still valid" in done.stderr
    founded.serve().until_ready()
    form = {"grant_type": "client_credentials"}
    secret = (made["client_id"], made["client_secret"])
    assert founded.http.post(f"{founded.url}/oauth2/token", auth=secret, data=form).status_code == 200


@pytest.mark.parametrize(
    "line",
    ["issuer --version >&-", "issuer --version >/dev/full", "issuer --help >/dev/full", "issuer --help | true",
     "issuer check >&- 2>&-", "issuer keys plan <&- >&- 2>&-", "issuer keys list 2>&1 | true",
     "issuer nonsense 2>&-"],
)  # fmt: skip
def test_real_shells_get_no_traceback(founded: Installation, line: str) -> None:
    program = f"{sys.executable} -m issuer.cli"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("issuer", program, 1)],
        cwd=founded.folder,
        env={**os.environ, **founded.settings, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1, 2}
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") <= 1


# Places


def test_in_a_folder_that_is_gone_each_says_so(runner: Runner) -> None:
    for command in ARGUMENTS:
        ran = runner.run(command, gone=True)
        assert ran.code in {1, 2} or command == "check", (command, ran)
        assert ran.code != 1 or command == "check" or ran.err.count("\n") == 1, (command, ran)


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_in_a_wrong_folder_nothing_is_made_and_each_says_where_it_looked(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "target").write_text("sqlite:///elsewhere.db\n")
    (tmp_path / "users.csv").write_text("username,password_hash\n")
    (tmp_path / "passphrase").write_text("another passphrase for tests\n")
    before = listing(tmp_path)
    for command in (*READING, *NEEDING):
        ran = runner.run(command, folder=tmp_path)
        assert listing(tmp_path) == before, command
        if command != "check":
            assert ran.code == 1, (command, ran)
            assert f"{tmp_path}/issuer.db" in ran.err, (command, ran)


@pytest.mark.parametrize("content", [b"", b"no database at all, but longer than the head of one" * 9])
def test_what_is_no_database_of_ours_stays_as_it_is(runner: Runner, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "issuer.db").write_bytes(content)
    for command in ("keys list", "users list", "audit verify", "users disable"):
        ran = runner.run(command, folder=tmp_path)
        assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert (tmp_path / "issuer.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["issuer.db"]


def test_reading_leaves_the_folder_as_it_was(runner: Runner, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runner.origin, tmp_path / "copy"))
    before = listing(folder)
    for command in READING:
        runner.run(command, folder=folder)
        assert listing(folder) == before, command


def test_reading_upgrades_no_tables(runner: Runner, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runner.origin, tmp_path / "copy"))
    with closing(sqlite3.connect(folder / "issuer.db")) as database, database:
        ((table,),) = database.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%version_num%'"
        ).fetchall()
        database.execute(f"UPDATE {table} SET version_num = '0000'")  # noqa: S608 - a name of ours
    before = (folder / "issuer.db").read_bytes()
    for command in ("keys list", "users list", "clients list", "audit verify"):
        ran = runner.run(command, folder=folder)
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "older version" in ran.err
    assert (folder / "issuer.db").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody who may not write")
def test_what_may_only_be_read_can_be_read(runner: Runner) -> None:
    folder = Path("/tmp") / f"issuer-read-only-{os.getpid()}"  # noqa: S108 - nobody enters the folders of tests
    shutil.copytree(runner.origin, folder)
    try:
        folder.chmod(0o755)
        (folder / "issuer.db").chmod(0o644)
        shutil.rmtree(folder / "keys")
        script = """
import os, sys
from issuer.cli import commands, main  # commands: imported while that is allowed
import sqlalchemy.dialects.sqlite.pysqlite
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.argv = ["issuer", "users", "list", "--json"]
main()
"""
        before = listing(folder)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert [user["username"] for user in json.loads(done.stdout)["users"]] == ["alice"]
        assert listing(folder) == before
    finally:
        shutil.rmtree(folder)
