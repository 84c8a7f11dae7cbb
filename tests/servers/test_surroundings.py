"""Every command in unusual surroundings: a clear line, the right exit code, and nothing created."""

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import typer
from support.command_runner import ARGUMENTS, BROKEN, FULL, PASSWORD, Ran, Runner
from support.servers import PASSPHRASE, Installation

from issuer.cli.commands import app

SERVERS = {"serve", "demo"}
"""They run until they are stopped; they have other tests."""
READING = [
    "check", "move", "keys list", "keys plan", "keys nodes", "keys verifiers", "keys verify", "keys rotate",
    "keys rollback", "keys recover", "audit list", "audit export", "audit head", "audit sessions", "audit verify",
    "users list", "users show", "users sessions", "users import", "roles list", "clients list", "clients show",
    "resources list",
]  # fmt: skip
NEEDING = [
    "keys revoke",
    "keys rewrap",
    "users unlock",
    "users grant",
    "users revoke-scope",
    "users revoke-role",
    "users set",
    "users delete",
    "roles delete",
    "users set-profile",
    "users disable",
    "users enable",
    "clients set",
    "clients delete",
    "clients rotate-secret",
    "clients require-pkce",
    "resources remove",
]


def commands(branch: typer.Typer = app, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the words of every command."""
    for each in branch.registered_commands:
        assert each.callback
        yield " ".join((*path, each.name or each.callback.__name__))
    for group in branch.registered_groups:
        assert group.typer_instance
        yield from commands(group.typer_instance, (*path, str(group.name)))


def test_every_command_is_tested_here() -> None:
    assert set(commands()) - SERVERS == set(ARGUMENTS)


@pytest.fixture(scope="module")
def runner(initialized_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner of commands in copies of an installation with a user and a client."""
    folder = shutil.copytree(initialized_folder, tmp_path_factory.mktemp("surroundings") / "origin")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        site.command("users", "grant", "alice", "--scope", "items:write")
        site.command("roles", "set", "support", "tickets:read")
        site.command("roles", "set", "admin", "")
        site.command("users", "grant", "alice", "--role", "support")
        client_id = site.command("clients", "add", "machine", "--json").document["client_id"]
    (folder / "passphrase").write_text("another passphrase for tests\n")
    (folder / "target").write_text(f"sqlite:///{folder}/elsewhere.db\n")
    (folder / "users.csv").write_text("username,password_hash,scope\n")
    runner = Runner(folder, client_id, tmp_path_factory.mktemp("scratch"))
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def ordinary(runner: Runner) -> Mapping[str, Ran]:
    """The result of each command in ordinary surroundings."""
    return {command: runner.run(command) for command in ARGUMENTS}


# Streams


def commands_for(ordinary: Mapping[str, Ran], place: str | None) -> Iterator[tuple[str, Ran]]:
    """Yield every command for a closed stream, every second one for streams whose writes fail in the same way."""
    first, step = {FULL: (0, 2), BROKEN: (1, 2)}.get(place or "", (0, 1))
    yield from list(ordinary.items())[first::step]


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("stdout", [FULL, None, BROKEN])
def test_an_unwritable_result_is_a_failure_with_one_line(
    runner: Runner, ordinary: Mapping[str, Ran], stdout: str | None, options: tuple[str, ...]
) -> None:
    for command, plain in commands_for(ordinary, stdout):
        ran = runner.run(command, *options, stdout=stdout)
        lost = [line for line in ran.err.splitlines() if "standard output" in line]
        if plain.code == 0 or options:
            assert (ran.code, len(lost)) == (1, 1), (command, ran)
            assert lost[0].startswith("failed: cannot write to standard output: ")
        else:
            assert ran.code == plain.code, (command, ran)


@pytest.mark.parametrize("stderr", [FULL, None, BROKEN])
def test_an_unwritable_message_changes_nothing(
    runner: Runner, ordinary: Mapping[str, Ran], stderr: str | None
) -> None:
    for command, plain in commands_for(ordinary, stderr):
        assert runner.run(command, stderr=stderr).code == plain.code, command
        assert runner.run(command, "--nonsense", stderr=stderr).code == 2, command


@pytest.mark.parametrize("stdin", [None, "/dev/null"])
def test_without_input_only_commands_that_need_it_fail(
    runner: Runner, ordinary: Mapping[str, Ran], stdin: str | None
) -> None:
    for command, plain in ordinary.items():
        ran = runner.run(command, stdin=stdin)
        if "--password-stdin" in ARGUMENTS[command]:
            assert (ran.code, ran.err) == (1, "failed: no password on standard input\n")
        else:
            assert ran.code == plain.code, (command, ran)
    for asking in ("users add bob", "keys  rewrap", " move"):  # with none of the arguments above
        ran = runner.run(asking, stdin=stdin)
        assert (ran.code, ran.err.count("\n")) == (1, 1), ran


def test_every_encoding_is_supported(runner: Runner, ordinary: Mapping[str, Ran]) -> None:
    environment = {"HOME": None, "LC_ALL": "C", "USER": None}
    others = itertools.cycle(["latin-1", "cp1252", "koi8-r"])
    for command, plain in ordinary.items():
        for encoding in ("ascii", next(others)):
            ran = runner.run(command, encoding=encoding, environment=environment)
            assert ran.code == plain.code, (command, encoding, ran)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r"])
def test_help_is_printed_in_every_encoding(runner: Runner, encoding: str) -> None:
    assert runner.run("--help", encoding=encoding).code == 0


def test_a_plan_is_drawn_in_ascii_where_the_encoding_requires_it(runner: Runner) -> None:
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
def test_no_client_is_registered_if_its_secret_cannot_be_printed(
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


def test_a_secret_that_cannot_be_printed_does_not_replace_the_old_one(initialized: Installation) -> None:
    made = initialized.command("clients", "add", "machine", "--json").document
    command = (
        f"{sys.executable} -m issuer.cli clients rotate-secret {made['client_id']} --overlap 0 > /dev/full"
    )
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=initialized.folder,
        env={**os.environ, **initialized.settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the previous secret is still valid" in done.stderr
    initialized.serve().until_ready()
    form = {"grant_type": "client_credentials"}
    secret = (made["client_id"], made["client_secret"])
    assert initialized.http.post(f"{initialized.url}/oauth2/token", auth=secret, data=form).status_code == 200


@pytest.mark.parametrize(
    "line",
    ["issuer --version >&-", "issuer --version >/dev/full", "issuer --help >/dev/full", "issuer --help | true",
     "issuer check >&- 2>&-", "issuer keys plan <&- >&- 2>&-", "issuer keys list 2>&1 | true",
     "issuer nonsense 2>&-"],
)  # fmt: skip
def test_real_shells_get_no_traceback(initialized: Installation, line: str) -> None:
    program = f"{sys.executable} -m issuer.cli"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("issuer", program, 1)],
        cwd=initialized.folder,
        env={
            **os.environ,
            **initialized.settings,
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1, 2}
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") <= 1


# Places


ANYWHERE = {"check", "token inspect"}
"""They tell what is wrong as their result."""


def test_in_a_deleted_folder_each_command_fails_with_one_line(runner: Runner) -> None:
    for command in ARGUMENTS:
        ran = runner.run(command, gone=True)
        assert ran.code in {1, 2} or command in ANYWHERE, (command, ran)
        assert ran.code != 1 or command in ANYWHERE or ran.err.count("\n") == 1, (command, ran)


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_in_a_wrong_folder_nothing_is_created_and_the_error_names_the_database(
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
def test_a_file_that_is_no_database_of_the_issuer_is_not_changed(
    runner: Runner, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "issuer.db").write_bytes(content)
    for command in ("keys list", "users list", "audit verify", "users disable"):
        ran = runner.run(command, folder=tmp_path)
        assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert (tmp_path / "issuer.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["issuer.db"]


def test_reading_commands_change_no_file(runner: Runner, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runner.origin, tmp_path / "copy"))
    before = listing(folder)
    for command in READING:
        runner.run(command, folder=folder)
        assert listing(folder) == before, command


def test_reading_commands_upgrade_no_tables(runner: Runner, tmp_path: Path) -> None:
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without write access")
@pytest.mark.skipif(
    not all(folder.stat().st_mode & 0o001 for folder in Path(sys.prefix).parents),
    reason="another user cannot import the packages of this environment: a folder above it is closed",
)
def test_reading_commands_work_with_read_only_files(runner: Runner) -> None:
    folder = Path("/tmp") / f"issuer-read-only-{os.getpid()}"  # noqa: S108 - other users cannot enter the folders of tests
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
