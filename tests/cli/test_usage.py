"""Usage errors of commands: exit code 2 and a message of this project, before anything is opened.

Values that fail for what is or is not there (a file, a user, a database) exit 1: see `servers/test_operator_input`.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from issuer.cli import commands
from issuer.cli.commands import app

ADD_CLIENT = ["clients", "add", "a client"]
REASON = ["--reason", "a test"]
MISUSED = [
    ["--bogus"],
    ["bogus"],
    ["serve", "--host", ""],
    ["serve", "--port", "0"],
    ["serve", "--port", "70000"],
    ["serve", "--port", "http"],
    ["serve", "--port", "80.5"],
    ["serve", "--workers", "0"],
    ["serve", "--drain", "-1"],
    ["serve", "--keep-alive", "75s"],
    ["serve", "--head-timeout", "0"],
    ["serve", "--body-timeout", ""],
    ["serve", "--max-head", "1"],
    ["serve", "--max-connections", "many"],
    ["serve", "--max-connections", "9" * 20],
    ["serve", "--max-connections-per-address", "-1"],
    ["serve", "--ssl-keyfile", "key.pem"],
    ["serve", "extra"],
    ["demo", "--port", "8000", "--service-port", "8000"],
    ["demo", "--port", "99999"],
    ["demo", "--service-port", "x"],
    ["check", "extra"],
    ["move", "--back", "--dry-run"],
    ["move", "--back", "--to-file", "file"],
    ["keys", "bogus"],
    ["keys", "list", "--last", "1"],
    ["keys", "plan", "extra"],
    ["keys", "nodes", "extra"],
    ["keys", "verifiers", "extra"],
    ["keys", "verify", "extra"],
    ["keys", "rotate", "--force"],
    ["keys", "rotate", "--reason", " "],
    ["keys", "rotate", "--force", "--reason", "x" * 501],
    ["keys", "rollback", "--force"],
    ["keys", "rollback", "--reason", ""],
    ["keys", "revoke", *REASON],
    ["keys", "revoke", "", *REASON],
    ["keys", "revoke", "kid"],
    ["keys", "revoke", "kid", "--reason", "  "],
    ["keys", "import"],
    ["keys", "import", "a\x1b[2J"],
    ["keys", "recover"],
    ["keys", "recover", "--reason", ""],
    ["keys", "rewrap", "--same-passphrase", "--new-passphrase-file", "file"],
    ["audit", "list", "--last", "0"],
    ["audit", "list", "--last", "9" * 26],
    ["audit", "list", "--since", "yesterday"],
    ["audit", "list", "--until", "99999999999d"],
    ["audit", "list", "--action", "nonsense"],
    ["audit", "export", "--after", "12"],
    ["audit", "export", "--after", "-1:0"],
    ["audit", "head", "extra"],
    ["audit", "sessions", "--last", "x"],
    ["audit", "sessions", "--last", str(2**63)],
    ["audit", "verify", "--noted", "junk"],
    ["users", "add", "", "--password-stdin"],
    ["users", "add", "two words", "--password-stdin"],
    ["users", "add", "x" * 65, "--password-stdin"],
    ["users", "add", "bob", "--scope", "é", "--password-stdin"],
    ["users", "add", "bob", "--scope"],
    ["users", "list", "extra"],
    ["users", "list", "--limit", "0"],
    ["users", "list", "--limit", "all"],
    ["users", "list", "--like", "x" * 300],
    ["users", "list", "--after", "x" * 300],
    ["users", "show"],
    ["users", "sessions"],
    ["users", "sessions", "bob", "--end"],
    ["users", "sessions", "bob", "--end", "an id", "--end-all"],
    ["users", "unlock"],
    ["users", "revoke-scope", "bob"],
    ["users", "revoke-scope", "bob", "--scope", ""],
    ["users", "revoke-scope", "bob", "--scope", "é"],
    ["users", "revoke-role", "bob"],
    ["users", "revoke-role", "bob", "--role", "two words"],
    ["users", "set", "bob"],
    ["users", "set", "bob", "department"],
    ["users", "set", "bob", "sub=root"],
    ["users", "set", "bob", "department=" + "x" * 300],
    ["users", "delete"],
    ["users", "delete", "bob", "extra"],
    ["users", "grant", "bob", "--role", ""],
    ["users", "grant", "bob", "--role", "support", "--only"],
    ["roles", "set", "support"],
    ["roles", "set", "two words", "a"],
    ["roles", "set", "support", "é"],
    ["roles", "set", "support", "b" * 501],
    ["roles", "list", "extra"],
    ["roles", "delete"],
    ["roles", "delete", "two words"],
    ["users", "grant", "bob"],
    ["users", "grant", "bob", "--scope", ""],
    ["users", "grant", "bob", "--scope", '"'],
    ["users", "grant", "bob", "--scope", "b" * 3000],
    ["users", "set-profile", "bob"],
    ["users", "set-profile", "--name", "Bob"],
    ["users", "set-profile", "bob", "--email", "nobody"],
    ["users", "set-profile", "bob", "--name", "x" * 201],
    ["users", "add", "bob", "--email", "bob@", "--password-stdin"],
    ["users", "add", "bob", "--email-verified", "--password-stdin"],
    ["users", "set-password"],
    ["users", "reset-link"],
    ["users", "invite"],
    ["users", "invite", "two words"],
    ["users", "invite", "bob", "--valid", "soon"],
    ["users", "invite", "bob", "--valid", "30s"],
    ["users", "invite", "bob", "--valid", "29d"],
    ["users", "invite", "bob", "--email", "bob@"],
    ["users", "disable"],
    ["users", "enable", "a", "b"],
    ["users", "import"],
    ["clients", "add"],
    ["clients", "add", ""],
    ["clients", "add", "x", "--from", "file"],
    ["clients", "add", "--from", "file", "--scope", "a"],
    ["clients", "add", "--from", "file", "--auth", "none"],
    ["clients", "add", "--from", "file", "--trusted"],
    ["clients", "add", "--from", "file", "--overlap", "banana"],
    ["clients", "add", "x", "--prune"],
    ["clients", "add", "x", "--dry-run"],
    ["clients", "add", "x", "--overlap", "24h"],
    ["clients", "add", "-x"],
    ["clients", "add", "x" * 201],
    [*ADD_CLIENT, "--scope", 'a"b'],
    [*ADD_CLIENT, "--audience", ""],
    [*ADD_CLIENT, "--audience", "notaurl"],
    [*ADD_CLIENT, "--auth", "bogus"],
    [*ADD_CLIENT, "--auth", "private_key_jwt"],
    [*ADD_CLIENT, "--auth", "private_key_jwt", "--jwks", "a", "--jwks-uri", "https://a.example"],
    [*ADD_CLIENT, "--auth", "none", "--jwks-uri", "https://a.example"],
    [*ADD_CLIENT, "--auth", "private_key_jwt", "--jwks-uri", "ftp://a.example"],
    [*ADD_CLIENT, "--jwks", "/nonexistent"],
    [*ADD_CLIENT, "--redirect-uri", "http://a.example"],
    [*ADD_CLIENT, "--redirect-uri", "https://a.example/*"],
    [*ADD_CLIENT, "--redirect-uri", "https://a.example", "--backchannel-logout-uri", "cursor://a"],
    [*ADD_CLIENT, "--redirect-uri", "https://a.example", "--post-logout-redirect-uri", "data:x"],
    [*ADD_CLIENT, "--redirect-uri", "https://a.example", "--auth", "none", "--no-pkce"],
    [*ADD_CLIENT, "--grant", "authorization_code"],
    [*ADD_CLIENT, "--grant", "password"],
    [*ADD_CLIENT, "--grant", "bogus"],
    [*ADD_CLIENT, "--trusted"],
    [*ADD_CLIENT, "--id-token-claims", "email"],
    [*ADD_CLIENT, "--redirect-uri", "https://a.example", "--id-token-claims", "email,sub"],
    ["clients", "list", "extra"],
    ["clients", "list", "--limit", "0"],
    ["clients", "show"],
    ["clients", "set", "id"],
    ["clients", "set", "id", "--dry-run"],
    ["clients", "set", "id", "--name", ""],
    ["clients", "set", "id", "--scope", "a", "--add-scope", "b"],
    ["clients", "set", "id", "--remove-scope", "é"],
    ["clients", "set", "id", "--audience", "notaurl"],
    ["clients", "set", "id", "--redirect-uri", "http://a.example"],
    ["clients", "set", "id", "--redirect-uri", "", "--redirect-uri", "https://a.example"],
    ["clients", "set", "id", "--backchannel-logout-uri", "cursor://a"],
    ["clients", "set", "id", "--grant", "password"],
    ["clients", "set", "id", "--id-token-claims", "sub"],
    ["clients", "set", "id", "--jwks-uri", "ftp://a.example"],
    ["clients", "set", "id", "--jwks", "a", "--jwks-uri", "https://a.example"],
    ["clients", "delete"],
    ["clients", "rotate-secret", "id", "--overlap", "banana"],
    ["clients", "rotate-secret", "id", "--overlap", ""],
    ["clients", "rotate-secret", "id", "--overlap", "-1"],
    ["clients", "rotate-secret", "id", "--overlap", "99999d"],
    ["clients", "require-pkce"],
    ["clients", "disable"],
    ["clients", "enable"],
    ["resources", "add"],
    ["resources", "add", "notaurl"],
    ["resources", "add", "https://API.example"],
    ["resources", "add", "https://api.example/?a=b"],
    ["resources", "add", "https://api.example", "--scope", "é"],
    ["resources", "list", "extra"],
    ["resources", "remove"],
    ["token", "inspect", "a", "b"],
    ["token", "inspect", "bearer", "a", "b"],
    ["token", "inspect", "--bogus"],
    ["token", "inspect", "a", "--issuer", "issuer.example"],
    ["token", "inspect", "a", "--audience", "two words"],
]
LIBRARY = re.compile(r"Input should|Value error|Value should|validation|pydantic|Errno|unable to parse")


def paths(branch: typer.Typer = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for each in branch.registered_commands:
        assert each.callback
        yield (*path, each.name or each.callback.__name__)
    for group in branch.registered_groups:
        assert group.typer_instance
        yield from paths(group.typer_instance, (*path, str(group.name)))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["issuer", *arguments])
    return commands._run(as_json="--json" in arguments)


def test_every_command_is_misused_here() -> None:
    rows = [tuple(row) for row in MISUSED]
    assert [path for path in paths() if not any(row[: len(path)] == path for row in rows)] == []


@pytest.mark.parametrize("arguments", MISUSED, ids=" ".join)
def test_arguments_that_can_never_work_are_usage_errors(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Error: " in printed.err
    assert not LIBRARY.search(printed.err)
    assert run(monkeypatch, arguments[0], "--json", *arguments[1:]) == 2 or arguments[0] in {"serve", "demo"}
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"] == "usage"
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted({(), *(path[:1] for path in paths()), *paths()}), ids=" ".join)
def test_help_is_whole_in_eighty_columns(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, *path, "--help") == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "..." not in printed.replace("[ARGS]...", "").replace("{NAME=VALUE}...", "")
    assert max(map(len, printed.splitlines())) <= 80
    assert "int range" not in printed


@pytest.mark.processes
@pytest.mark.parametrize(
    "at", ["issuer.cli.streams.prepare", "issuer.cli.commands.run", "issuer.cli.commands.app"]
)
def test_ctrl_c_ends_a_command_without_a_traceback(at: str) -> None:
    module, _, name = at.rpartition(".")
    code = (
        f"import issuer.cli, {module}\n"
        "def interrupt(*_, **__): raise KeyboardInterrupt\n"
        f"{module}.{name} = interrupt\n"
        "issuer.cli.main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_command_cancelled_at_a_prompt_prints_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prompt(*_: object, **__: object) -> None:
        abort = typer.Abort()
        abort.__context__ = KeyboardInterrupt()  # as the library's prompt raises it
        raise abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    assert run(monkeypatch, "users", "add", "bob") == 130
    assert capsys.readouterr().err == "cancelled; nothing was done\n"
