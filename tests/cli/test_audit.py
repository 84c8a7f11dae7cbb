"""`issuer audit`: the events of every command that changes accounts or clients, and how both logs are shown."""

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.defaults import PASSWORD
from support.installation import Deployment, deployment, empty, installed

from issuer.audit.event import Event, EventAction
from issuer.cli import commands
from issuer.cli.streams import OutputLost
from issuer.oauth import LoginFailed
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.throttling.origin import Origin
from issuer.wiring import build

__all__ = ["deployment", "empty", "installed"]

Command = Callable[..., str]

CHANGES = [
    (["users", "grant", "alice", "--scope", "a b"], "scope granted", "now: a b"),
    (["users", "grant", "alice", "--scope", "", "--only"], "scope granted", "now: "),
    (["users", "set-profile", "alice", "--name", "Zoë A."], "profile changed", None),
    (["users", "set-password", "alice", "--password-stdin"], "password changed", None),
    (["users", "reset-link", "alice"], "reset link made", None),
    (["users", "grant", "alice", "--scope", "a b"], "scope granted", "now: a b"),
    (["users", "revoke-scope", "alice", "--scope", "b"], "scope revoked", "now: a"),
    (["users", "set", "alice", "department=ops"], "attributes set", "department"),
    (["users", "disable", "alice"], "user disabled", None),
    (["users", "enable", "alice"], "user enabled", None),
    (
        ["clients", "rotate-secret", "CLIENT", "--overlap", "1h"],
        "secret rotated",
        "the old one is valid for 1h",
    ),
    (
        ["clients", "set", "CLIENT", "--name", "Worker", "--scope", "x"],
        "client changed",
        "name; scope now: x",
    ),
    (["clients", "require-pkce", "CLIENT"], "client changed", "requires PKCE"),
    (["clients", "enable", "CLIENT"], "client enabled", None),
    (["clients", "disable", "CLIENT"], "client disabled", None),
    (["clients", "delete", "CLIENT", "--yes"], "client deleted", "sessions ended: 0"),
]
OTHER_CHANGES = [
    (["roles", "set", "support", "x"], "role set", "support, now: x"),
    (["users", "grant", "alice", "--role", "support"], "role granted", "support"),
    (["users", "revoke-role", "alice", "--role", "support"], "role revoked", "support"),
    (["roles", "delete", "support", "--yes"], "role deleted", "support"),
    (
        ["resources", "add", "https://a.example", "--scope", "x y", "--open"],
        "resource added",
        "https://a.example; scope: x y; open",
    ),
    (["resources", "add", "https://b.example"], "resource added", "https://b.example"),
    (["resources", "remove", "https://A.example/"], "resource removed", "https://a.example"),
    (["users", "unlock", "alice"], "limits cleared", None),
    (["users", "sessions", "alice", "--end-all"], "session ended", "1 sessions"),
    (["users", "delete", "alice", "--yes"], "user deleted", None),
]
READING = {"list", "show"}
OF_CLIENTS = {action for action in EventAction if action.name.startswith(("CLIENT", "SECRET"))}
CREATING = {"users add", "users import", "users invite", "clients add"}


@pytest.fixture
def command(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in this process, and return what it prints."""
    monkeypatch.setattr(
        "issuer.cli.client_view.MEMORY", timedelta(0)
    )  # no other process remembers the clients

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["issuer", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PASSWORD.encode())))
        capsys.readouterr()
        assert commands._run(as_json="--json" in arguments) == code
        return capsys.readouterr().out

    return run


def entries(command: Command, *options: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(command("audit", "list", *options, "--json"))["entries"]
    return listed


def made(command: Command) -> tuple[str, str]:
    """Return the ids of a new user and a new client."""
    user = json.loads(command("users", "add", "alice", "--scope", "a", "--password-stdin", "--json"))["id"]
    return user, json.loads(command("clients", "add", "machine", "--json"))["client_id"]


def test_every_command_that_changes_accounts_clients_roles_or_resources_is_tested_here() -> None:
    groups = {group.name: group.typer_instance for group in commands.app.registered_groups}
    changing = {
        f"{name} {each.name or each.callback.__name__}"  # type: ignore[union-attr]
        for name in ("users", "clients", "roles", "resources")
        for each in groups[name].registered_commands  # type: ignore[union-attr]
        if (each.name or each.callback.__name__) not in READING  # type: ignore[union-attr]
    }
    tested = [*CHANGES, *OTHER_CHANGES]
    assert changing == CREATING | {" ".join(arguments[:2]) for arguments, _, _ in tested}


def test_each_change_by_a_command_is_recorded_with_operator_and_subject(command: Command) -> None:
    user, client = made(command)
    for arguments, _, _ in CHANGES:
        command(*(client if each == "CLIENT" else each for each in arguments))
    found = entries(command)
    events = [each for each in found if each["log"] == "accounts"]
    expected = [("user created", "a"), ("client created", None)]
    expected += [(action, detail) for _, action, detail in CHANGES]
    expected[3] = ("scope revoked", "now: ")
    assert [(each["action"], each["detail"]) for each in events] == expected
    for each in events:
        assert " on " in each["actor"]
        subject = (None, client) if each["action"] in OF_CLIENTS else (user, None)
        assert (each["user"], each["client"]) == subject
    assert next(each["action"] for each in found if each["log"] == "keys") == "published"


def test_roles_resources_sessions_and_a_deletion_are_recorded_with_operator_and_subject(
    command: Command,
) -> None:
    user, _ = made(command)
    issuer = build(load_settings())
    try:
        with pytest.raises(LoginFailed):
            issuer.accounts.login.authenticate("alice", "wrong", Origin(), issuer.clock(), lambda _: None)
        assert issuer.sessions.store.start(user, None, "1", ("pwd",), Origin(), issuer.clock())
    finally:
        issuer.close()
    for arguments, _, _ in OTHER_CHANGES:
        command(*arguments)
    events = entries(command, "--last", str(len(OTHER_CHANGES)))
    assert [(each["action"], each["detail"], each["user"]) for each in events] == [
        (action, detail, user if arguments[0] == "users" else None)
        for arguments, action, detail in OTHER_CHANGES
    ]
    assert all(" on " in each["actor"] for each in events)


def test_clients_of_a_file_are_recorded(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "clients.json"

    def register(*clients: dict[str, object]) -> None:
        file.write_text(json.dumps({"clients": clients}))
        command("clients", "add", "--from", str(file), "--prune", "--yes")

    page = {"client_id": "page", "name": "Page", "auth": "none", "redirect_uris": ["https://page.example/"]}
    register(page)
    register({**page, "scope": "x"})
    register({**page, "scope": "x"})
    register({**page, "client_id": "other", "name": "Other"})
    events = [each for each in entries(command) if each["log"] == "accounts"]
    assert [(each["action"], each["detail"], each["client"]) for each in events] == [
        ("client created", None, "page"),
        ("client changed", "scope now: x", "page"),
        ("client created", None, "other"),
        ("client deleted", "sessions ended: 0", "page"),
    ]


def test_a_secret_that_could_not_be_printed_leaves_a_trace(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object, **__: object) -> None:
        raise OutputLost("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("issuer.cli.clients._show_secret", lose)
        command("clients", "add", "machine", code=1)
    created, deleted = entries(command, "--last", "2")
    assert (created["action"], deleted["action"]) == ("client created", "client deleted")
    assert created["client"] == deleted["client"]
    assert deleted["reason"] == "the secret could not be printed"


def test_imported_users_are_recorded(command: Command, deployment: Deployment) -> None:
    issuer = build(load_settings())
    password_hash = issuer.accounts.passwords.hash(PASSWORD)
    issuer.close()
    file = deployment.folder / "users.csv"
    file.write_text(f'bob,"{password_hash}",\ncarol,"{password_hash}",\n')
    command("users", "import", str(file), "--dry-run")
    assert entries(command, "--action", "user imported") == []
    command("users", "import", str(file))
    imported = entries(command, "--action", "user imported")
    assert len({each["user"] for each in imported}) == 2


def test_filters_narrow_the_list(command: Command) -> None:
    user, client = made(command)
    assert [each["action"] for each in entries(command, "--user", "ALICE")] == ["user created"]
    assert [each["user"] for each in entries(command, "--user", user)] == [user]
    assert [each["client"] for each in entries(command, "--client", client)] == [client]
    assert entries(command, "--client", "nobody") == []
    assert len(entries(command, "--since", "1h", "--until", "2999-01-01")) == len(entries(command))
    assert entries(command, "--until", "2000-01-01T00:00:00Z") == []
    assert {each["log"] for each in entries(command, "--action", "published")} == {"keys"}
    assert "no such entries" in command("audit", "list", "--user", "nobody")


def test_usernames_are_added_on_terminals_as_long_as_the_account_exists(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _ = made(command)
    assert "alice" not in command("audit", "list")
    monkeypatch.setattr("issuer.cli.audit_search._is_terminal", lambda: True)
    shown = command("audit", "list", "--user", "alice")
    assert user in shown
    assert "alice" in shown
    issuer = build(load_settings())
    with issuer.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM users")
    issuer.close()
    shown = command("audit", "list", "--user", user)
    assert user in shown
    assert "alice" not in shown


def test_an_export_is_lines_of_json_with_positions_to_go_on_from(command: Command) -> None:
    made(command)
    lines = [json.loads(line) for line in command("audit", "export").splitlines()]
    assert [(each["log"], each["number"]) for each in lines] == [
        (each["log"], each["number"]) for each in entries(command)
    ]
    rest = command("audit", "export", "--after", lines[1]["position"], "--json").splitlines()
    assert [json.loads(line) for line in rest] == lines[2:]
    assert command("audit", "export", "--after", lines[-1]["position"]) == ""


def test_an_export_goes_on_after_a_damaged_row_and_fails_at_its_end(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(command)
    issuer = build(load_settings())
    with issuer.database.write() as connection:
        connection.exec_driver_sql("UPDATE account_events SET count = 'many' WHERE number = 1")
    issuer.close()
    monkeypatch.setattr(sys, "argv", ["issuer", "audit", "export"])
    assert commands._run(as_json=False) == 1
    printed = capsys.readouterr()
    assert "failed: the row 1 of account_events in the database is damaged" in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [each["number"] for each in lines if each["log"] == "accounts"] == [2]
    assert (next(iter(lines[0])), [*lines[0]][-1]) == ("at", "position")


def test_the_head_that_was_noted_shows_later_that_the_log_was_replaced(
    command: Command, deployment: Deployment
) -> None:
    number, digest = command("audit", "head").split()
    document = json.loads(command("audit", "head", "--json"))
    assert document == {"number": int(number), "digest": digest}
    for noted in (f"{number} {digest}", f" {number}  {digest} ", digest):
        assert "intact" in command("audit", "verify", "--noted", noted)
    for other in (f"{int(number) - 1} {digest}", f"{number} {'0' * 64}", "0" * 64):
        failed = command("audit", "verify", "--noted", other, "--json", code=1)
        assert "the audit log was replaced" in json.loads(failed)["message"]


def test_an_event_of_an_operator_names_who_runs_the_command(issuer: Issuer) -> None:
    event = issuer.event(EventAction.CLIENT_DELETED, client_id="x", reason="unused")
    assert event == Event(issuer.clock(), issuer.actor, "client deleted", None, "x", None, "unused")
    assert not event.is_summed
