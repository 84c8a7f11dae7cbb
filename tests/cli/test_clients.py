"""Commands on clients as operators use them: what they print, their exit codes, and what is changed."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from support.authorization import a_request, app
from support.stores import user

from issuer.cli import client_view, commands
from issuer.settings.loading import load_settings
from issuer.tokens.refresh import Family, stored
from issuer.tokens.refresh_text import new_refresh_token
from issuer.wiring import build

CALLBACK = "https://shop.example/callback"


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int | str | None
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in an empty folder."""
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "a passphrase for tests")
    monkeypatch.setattr(client_view, "MEMORY", timedelta(0))  # no other process has a client in its memory

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["issuer", "clients", *arguments])
        try:
            code = commands._run(as_json="--json" in arguments)
        except typer.Exit as ended:
            code = ended.exit_code
        return Done(code, *capsys.readouterr())

    return command


@pytest.fixture
def shop(run: Run) -> str:
    done = run("add", "Shop", "--scope", "a b", "--redirect-uri", CALLBACK, "--json")
    return str(done.document["client_id"])


def start_session(client_id: str, scope: frozenset[str]) -> None:
    """Start a session of a new user, who has consented, with the client."""
    issuer = build(load_settings())
    now, owner = issuer.clock(), user()
    issuer.accounts.store.add(owner)
    request = a_request(app(id=client_id), scope=scope)
    assert issuer.authorize.consents.give(owner.id, request, scope, now, now)
    until = now + timedelta(days=30)
    family = Family(owner.id, owner.id, client_id, scope, issuer.settings.audience, now, until)
    token = stored(new_refresh_token(family.id), family, now, timedelta(days=30))
    assert issuer.tokens.families.start(family, token)
    issuer.close()


def answering(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: answer)


def test_show_prints_everything_about_a_client(run: Run, shop: str) -> None:
    listed = run("list", "--json").document["clients"][1]
    document = run("show", shop, "--json").document
    assert document == {**listed, "jwks": None, "active_sessions": 0, "users_consented": 0}
    lines = dict(line.split(None, 1) for line in run("show", shop).out.splitlines())
    assert lines["redirect_uris"] == CALLBACK
    assert (lines["is_trusted"], lines["requires_pkce"], lines["active_sessions"]) == ("no", "yes", "0")
    assert run("show", "first-party", "--json").document["name"] == "first-party log-in"
    assert run("show", "unknown").code == 1


def test_set_prints_what_it_changes_and_a_dry_run_changes_nothing(run: Run, shop: str) -> None:
    options = ("set", shop, "--remove-scope", "b", "--trusted", "--name", "Shop 2", "--redirect-uri", "x:/y")
    dry = run(*options, "--dry-run", "--json")
    assert (dry.code, dry.document["dry_run"]) == (0, True)
    assert run("show", shop, "--json").document["name"] == "Shop"
    done = run(*options, "--json").document
    changes = [(each["field"], each["before"], each["after"]) for each in done["changes"]]
    assert changes == [
        ("name", "Shop", "Shop 2"),
        ("scope", "a b", "a"),
        ("redirect_uris", CALLBACK, "x:/y"),
        ("is_trusted", "no", "yes"),
    ]
    assert done["changes"] == dry.document["changes"]
    assert (done["scope"], done["sessions_holding_more"], done["sessions_ended"]) == ("a", 0, None)
    again = run(*options)
    assert (again.code, again.out) == (4, "")
    assert run("set", shop, "--end-sessions").code == 4
    assert "Shop 2: changed" in run("set", shop, "--scope", "").out


def test_set_refuses_what_contradicts_the_client_and_the_built_in_one(run: Run, shop: str) -> None:
    for arguments, reason in (
        ((shop, "--redirect-uri", ""), "needs a redirect URI"),
        ((shop, "--grant", "client_credentials"), "for clients with the grant authorization_code"),
        ((shop, "--jwks-uri", "https://a.example/jwks"), "it authenticates by client_secret_basic"),
        (("first-party", "--scope", "a"), "is built in"),
        (("unknown", "--scope", "a"), "no such client"),
    ):
        for dry_run in ((), ("--dry-run",)):
            done = run("set", *arguments, *dry_run)
            assert (done.code, done.out) == (1, "")
            assert reason in done.err


def test_a_key_set_is_replaced_by_another(run: Run, tmp_path: Path) -> None:
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [key]}))
    auth = ("--auth", "private_key_jwt", "--jwks-uri", "https://a.example/jwks")
    client_id = run("add", "payments", *auth, "--json").document["client_id"]
    done = run("set", client_id, "--jwks", str(file), "--json").document
    assert [each["field"] for each in done["changes"]] == ["jwks", "jwks_uri"]
    assert run("show", client_id, "--json").document["jwks"] == {"keys": [key]}
    file.write_text("{}")
    assert run("set", client_id, "--jwks", str(file)).code == 1


def test_delete_asks_and_the_id_is_gone_for_good(
    run: Run, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dry = run("delete", shop, "--dry-run", "--json").document
    assert (dry["deleted"], dry["sessions_ended"], dry["users_consented"]) == (False, 0, 0)
    unasked = run("delete", shop)
    assert (unasked.code, "--yes" in unasked.err) == (1, True)
    answering(monkeypatch, "another")
    assert run("delete", shop).code == 1
    answering(monkeypatch, shop[:6])
    done = run("delete", shop)
    assert (done.code, "access tokens already issued stay valid until 2" in done.out) == (0, True)
    assert run("show", shop).code == run("delete", shop, "--yes").code == 1
    assert "is built in" in run("delete", "first-party", "--yes").err


def test_list_has_pages_and_finds_clients(run: Run) -> None:
    ids = [run("add", f"machine {number}", "--json").document["client_id"] for number in range(3)]
    first = run("list", "--limit", "2", "--json").document
    assert [each["client_id"] for each in first["clients"]] == ["first-party", *ids[:2]]
    assert first["next_after"] == ids[1]
    assert f"--after {ids[1]}" in run("list", "--limit", "2").out
    second = run("list", "--limit", "2", "--after", ids[1], "--json").document
    assert ([each["client_id"] for each in second["clients"]], second["next_after"]) == ([ids[2]], None)
    assert run("list", "--after", "unknown").code == 1
    assert [each["name"] for each in run("list", "--like", "E 1", "--json").document["clients"]] == [
        "machine 1"
    ]
    assert run("list", "--disabled", "--json").document["clients"] == []
    run("disable", ids[0])
    assert len(run("list", "--disabled", "--json").document["clients"]) == 1
    assert run("list", "--like", "FIRST-P", "--json").document["clients"][0]["client_id"] == "first-party"
    assert run("list", "--like", "nothing").out == "no such clients\n"


def test_a_file_of_clients_is_registered(run: Run, tmp_path: Path) -> None:
    file, secrets = tmp_path / "clients.yaml", tmp_path / "secrets.json"
    file.write_text("secrets_file: secrets.json\nclients:\n- {client_id: shop, name: Shop, scope: a}\n")
    dry = run("add", "--from", str(file), "--dry-run")
    assert (dry.code, secrets.exists()) == (1, False), "a dry run makes no database"
    run("add", "old")
    dry = run("add", "--from", str(file), "--dry-run", "--json")
    assert (dry.document["dry_run"], dry.document["secrets_file"]) == (True, str(secrets))
    done = run("add", "--from", str(file))
    assert (done.code, "add: 1" in done.out, str(secrets) in done.out) == (0, True, True)
    secret = json.loads(secrets.read_text())["clients"][0]["client_secret"]
    assert secret not in done.out + done.err
    secrets.unlink()
    assert "1 client in the file: registered as declared" in run("add", "--from", str(file)).out
    file.write_text(file.read_text().replace("scope: a", "scope: b"))
    (change,) = run("add", "--from", str(file), "--json").document["changes"]
    assert change == {
        "step": "change",
        "client_id": "shop",
        "name": "Shop",
        "fields": [{"field": "scope", "before": "a", "after": "b"}],
        "sessions_holding_more": 0,
    }


def test_a_file_that_narrows_a_client_says_how_many_sessions_hold_more_in_the_words_of_set(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "clients.json"
    shop = {"client_id": "shop", "name": "Shop", "auth": "none", "redirect_uris": [CALLBACK], "scope": "a b"}

    def register(*options: str, **changes: str) -> Done:
        file.write_text(json.dumps({"clients": [{**shop, **changes}]}))
        return run("add", "--from", str(file), *options)

    assert register().code == 0
    start_session("shop", frozenset({"a", "b"}))
    for options in (("--dry-run",), ("--dry-run", "--json"), ()):
        done = register(*options, scope="a")
        if "--json" in options:
            assert done.document["changes"][0]["sessions_holding_more"] == 1
            continue
        (line,) = (line for line in done.out.splitlines() if "hold more" in line)
        assert line.startswith(
            "Shop: sessions that hold more: 1; each gets less from its next refresh on, and "
        )
        assert line.endswith(" issuer clients set shop --end-sessions ends them")
    assert run("set", "shop", "--end-sessions", "--json").document["sessions_ended"] == 1
    assert run("set", "shop", "--end-sessions").code == 4


def test_sessions_are_ended_by_a_second_command_after_the_grant_was_taken_away(run: Run, shop: str) -> None:
    start_session(shop, frozenset({"a"}))
    first = run("set", shop, "--grant", "authorization_code")
    assert "sessions that hold more: 1; each gets less" in first.out
    assert run("set", shop, "--end-sessions", "--json").document["sessions_ended"] == 1


def test_a_file_with_an_error_is_refused_with_its_place(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "clients.yaml"
    file.write_text("clients:\n- name: Shop\n  scop: a\n")
    done = run("add", "--from", str(file))
    assert done.code == 1
    assert f"{file}: line 3, clients[0].scop: is unknown" in done.err
    file.write_text("clients:\n- name: Shop\n")
    assert "line 2, clients[0]: needs secret_sha256" in run("add", "--from", str(file)).err
    assert "no such file" in run("add", "--from", str(tmp_path / "missing")).err
    assert "not a regular file" in run("add", "--from", str(tmp_path)).err


def test_pruning_asks_for_the_number_of_clients(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "clients.json"
    file.write_text(json.dumps({"clients": []}))
    assert "would delete every one" in run("add", "--from", str(file), "--prune", "--yes").err
    kept = {"client_id": "kept", "name": "Kept", "auth": "none", "redirect_uris": ["https://kept.example/"]}
    file.write_text(json.dumps({"clients": [kept]}))
    assert run("add", "--from", str(file), "--prune").code == 0, "there is nothing to delete"
    for name in ("one", "two"):
        run("add", name)
    unasked = run("add", "--from", str(file), "--prune")
    assert (unasked.code, "two" in unasked.err, "give --yes" in unasked.err) == (1, True, True)
    answering(monkeypatch, "1")
    assert run("add", "--from", str(file), "--prune").code == 1
    assert len(run("list", "--json").document["clients"]) == 4
    answering(monkeypatch, "2")
    done = run("add", "--from", str(file), "--prune")
    assert (done.code, "delete: 2" in done.out) == (0, True)
    assert len(run("list", "--json").document["clients"]) == 2
    run("add", "three")
    assert run("add", "--from", str(file), "--prune", "--yes").code == 0
    assert len(run("list", "--json").document["clients"]) == 2
