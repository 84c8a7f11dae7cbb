"""`issuer users` and `issuer roles` as an operator uses them: lists, one user, deletion, roles."""

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from sqlalchemy import select
from support.defaults import PASSWORD

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, account_name
from issuer.cli import commands
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.mail.outbox import MailKind, mails
from issuer.oauth import LoginFailed, TooManyAttempts
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int | str | None
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Input(io.TextIOWrapper):
    """A standard input that a test may call a terminal."""


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the folder of the test."""

    def execute(*words: str, is_terminal: bool = False) -> Ran:
        monkeypatch.setattr(sys, "stdin", Input(io.BytesIO(PASSWORD.encode())))
        monkeypatch.setattr(Input, "isatty", lambda _: is_terminal)
        monkeypatch.setattr(sys, "argv", ["issuer", *words])
        code = commands._run(as_json="--json" in words)
        return Ran(code, *capsys.readouterr())

    return execute


@pytest.fixture
def database(run: Run, tmp_path: Path) -> Database:
    """The database of an installation with alice and bob."""
    for name in ("alice", "bob"):
        assert run("users", "add", name, "--password-stdin", "--scope", "items:read").code == 0
    return Database(f"sqlite:///{tmp_path}/issuer.db")


def user(database: Database, name: str) -> User:
    found = AccountStore(database).by_username(name)
    assert found
    return found


@pytest.mark.usefixtures("database")
def test_lists_are_pages_that_name_the_next_one(run: Run) -> None:
    page = run("users", "list", "--limit", "1")
    assert "alice" in page.out
    assert "there are more: --after alice\n" in page.out
    page = run("users", "list", "--limit", "1", "--json")
    assert [each["username"] for each in page.document["users"]] == ["alice"]
    assert page.document["after"] == "alice"
    last = run("users", "list", "--after", "alice", "--json").document
    assert ([each["username"] for each in last["users"]], last["after"]) == (["bob"], None)
    assert run("users", "list", "--like", "x").out == "no such accounts\n"
    assert run("users", "disable", "bob").code == 0
    assert [each["username"] for each in run("users", "list", "--disabled", "--json").document["users"]] == [
        "bob"
    ]


def test_one_user_is_shown_with_limits_that_unlock_clears(run: Run, database: Database) -> None:
    guard, now = Guard(ThrottleStore(database)), system_clock()
    for _ in range(11):
        with (
            pytest.raises(LoginFailed),
            guard.log_in(account_name("alice"), Origin(address="192.0.2.1"), now),
        ):
            raise LoginFailed
    with pytest.raises(TooManyAttempts), guard.log_in("alice", Origin(address="192.0.2.2"), now):
        raise LoginFailed
    shown = run("users", "show", "ALICE")
    assert shown.code == 0
    for text in ("alice", "items:read", "enabled", "0 of browsers, 0 of applications", "11"):
        assert text in shown.out
    limits = run("users", "show", "alice", "--json").document["limits"]
    assert limits["account"]["failures"] == 11
    assert limits["account"].keys() == {"failures", "limited_until"}
    assert run("users", "unlock", "alice").code == 0
    assert run("users", "show", "alice", "--json").document["limits"]["account"]["failures"] == 0
    again = run("users", "unlock", "alice")
    assert (again.code, again.err) == (4, "nothing to do: no failed log-ins of alice are counted\n")


def test_sessions_are_listed_and_ended(run: Run, database: Database) -> None:
    store = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    sessions = [
        store.start(user(database, "alice").id, None, "1", ("pwd",), Origin("curl", "::1"), system_clock())
        for _ in range(3)
    ]
    found = run("users", "sessions", "alice", "--json").document["sessions"]
    assert {each["id"] for each in found} == {each[0].id for each in sessions if each}
    assert {(each["of"], each["user_agent"], each["address"]) for each in found} == {
        ("browser", "curl", "::1")
    }
    assert len(run("users", "show", "alice", "--json").document["sessions"]) == 3
    one = found[0]["id"]
    assert len(run("users", "sessions", "alice", "--end", one, "--json").document["sessions"]) == 2
    assert run("users", "sessions", "alice", "--end", one).code == 1
    assert run("users", "sessions", "bob", "--end", found[1]["id"]).code == 1
    assert "2 sessions ended" in run("users", "sessions", "alice", "--end-all").out
    assert run("users", "sessions", "alice", "--end-all").code == 4
    assert run("users", "sessions", "alice").out == "alice has no sessions\n"


def test_a_deletion_asks_and_can_be_tried(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = user(database, "alice")
    tried = run("users", "delete", "alice", "--dry-run", "--json").document
    assert (tried["id"], tried["deleted"]) == (deleted.id, False)
    refused = run("users", "delete", "alice")
    assert (refused.code, refused.err) == (
        1,
        "failed: deleting asks for confirmation; give --yes in scripts\n",
    )
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: "bob")
    assert "nothing was deleted" in run("users", "delete", "alice", is_terminal=True).err
    assert user(database, "alice") == deleted
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: "Alice")
    assert "stays taken" in run("users", "delete", "alice", is_terminal=True).out
    assert AccountStore(database).by_username("alice") is None
    again = run("users", "add", "alice", "--password-stdin")
    assert again.code == 1
    assert "was the name of a deleted account; it can be taken from" in again.err
    audit = run("audit", "list", "--json").out
    assert deleted.id in audit
    assert "alice" not in audit


@pytest.mark.usefixtures("database")
def test_roles_are_set_granted_and_deleted(run: Run) -> None:
    assert "created" in run("roles", "set", "support", "tickets:read items:read").out
    granted = run("users", "grant", "alice", "--role", "support", "--json").document
    assert (granted["roles"], granted["scope"]) == (["support"], "items:read")
    assert granted["effective_scope"] == "items:read tickets:read"
    withdrawn = run("users", "revoke-scope", "alice", "--scope", "items:read")
    assert withdrawn.code == 0
    assert "alice still has items:read by a role" in withdrawn.err
    assert run("users", "revoke-scope", "alice", "--scope", "items:read").code == 4
    assert run("users", "grant", "alice", "--role", "unknown").code == 1
    assert "changed" in run("roles", "set", "support", "tickets:write").out
    assert run("roles", "list", "--json").document["roles"][0]["users"] == 1
    assert run("users", "show", "alice", "--json").document["effective_scope"] == "tickets:write"
    assert run("users", "revoke-role", "bob", "--role", "support").code == 4
    assert run("roles", "delete", "support").code == 1  # no terminal to ask at
    assert run("roles", "delete", "support", "--yes").out == "support: deleted; 1 user had it\n"
    assert run("roles", "delete", "support", "--yes").code == 1
    assert run("users", "show", "alice", "--json").document["effective_scope"] == ""


@pytest.mark.usefixtures("database")
def test_attributes_are_set_and_shown(run: Run) -> None:
    assert run("users", "set", "alice", "department=ops", "site=Zürich", "--json").document["attributes"] == {
        "department": "ops",
        "site": "Zürich",
    }
    assert "department=ops site=Zürich" in run("users", "show", "alice").out
    assert run("users", "set", "alice", "department=", "site=").out.endswith("no attributes\n")


def test_a_user_is_told_of_a_password_and_an_address_that_an_operator_changes(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_SMTP_URL", "smtp://127.0.0.1:1")
    run("users", "set-profile", "alice", "--email", "alice@example.com", "--email-verified")
    assert run("users", "set-password", "alice", "--password-stdin").code == 0
    assert run("users", "set-profile", "alice", "--name", "Alice").code == 0
    assert run("users", "set-profile", "alice", "--email", "other@example.com").code == 0
    with database.read() as connection:
        queued = connection.execute(
            select(mails.c.kind, mails.c.recipient).order_by(mails.c.created_at)
        ).all()
    assert [tuple(each) for each in queued] == [
        (MailKind.PASSWORD_CHANGED, "alice@example.com"),
        (MailKind.ADDRESS_CHANGED, "alice@example.com"),
    ]
