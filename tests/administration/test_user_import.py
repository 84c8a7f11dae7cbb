"""User import: which hashes and lines are accepted, that all users are imported or none, and the errors."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from passlib.hash import argon2, bcrypt, bcrypt_sha256, pbkdf2_sha256, pbkdf2_sha512, scrypt
from support.defaults import PASSWORD, START
from typer.testing import CliRunner, Result

from issuer.accounts.passwords import BadHash, Passwords
from issuer.accounts.user import User
from issuer.administration.clients import register_client
from issuer.administration.user_import import read_rows
from issuer.cli import user_import
from issuer.cli.commands import app
from issuer.cli.output import CommandError
from issuer.errors import Refused
from issuer.oauth import AuthMethod, UsernameTaken
from issuer.services import Issuer
from issuer.throttling.origin import Origin

passwords = Passwords()
HASHES = {
    "argon2": argon2.using(memory_cost=64, time_cost=1, parallelism=1).hash(PASSWORD),
    "scrypt": scrypt.using(rounds=4).hash(PASSWORD),
    "bcrypt": bcrypt.using(rounds=4).hash(PASSWORD),
    "bcrypt_sha256": bcrypt_sha256.using(rounds=4).hash(PASSWORD),
    "pbkdf2_sha256": pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
    "pbkdf2_sha512": pbkdf2_sha512.using(rounds=1000).hash(PASSWORD),
}
BCRYPT = HASHES["bcrypt"]
ARGON2 = HASHES["argon2"]
SUB = "6f0c2a4e-5d1b-4a52-9d7e-3b8f00c1d2e3"


@pytest.mark.parametrize("scheme", HASHES)
def test_a_hash_written_by_passlib_is_accepted(scheme: str) -> None:
    passwords.require_verifiable(HASHES[scheme])


@pytest.mark.parametrize("scheme", HASHES)
@pytest.mark.parametrize(
    "line",
    ["ann;{};a", "ann\t{}\ta", "ann|{}|a", "{},ann,a", "{}", "{},a", "ann:{}:a", "ann,{},a,b,c"],
    ids=["semicolons", "tabs", "bars", "swapped", "alone", "no name", "colons", "too many"],
)
def test_an_error_never_shows_a_hash(scheme: str, line: str) -> None:
    rows, errors = read_rows([line.format(HASHES[scheme])], passwords, START)
    assert not rows
    assert errors
    digest = HASHES[scheme].rpartition("$")[2]
    assert all(digest[-16:] not in f"{error.username} {error.reason}" for error in errors)


def test_a_header_in_capitals_and_spaces_around_fields_are_accepted() -> None:
    lines = ["Username,Password_Hash,Scope\r\n", f" ann , {BCRYPT} , items:read \r\n"]
    (row,), errors = read_rows(lines, passwords, START)
    assert errors == []
    assert (row.user.username, row.user.password_hash) == ("ann", BCRYPT)


@pytest.mark.parametrize("scheme", HASHES)
def test_a_truncated_hash_is_malformed(scheme: str) -> None:
    whole = HASHES[scheme]
    head, _, _ = whole.rpartition("$")
    for broken in (
        whole[:-2],
        head,
        whole + "!",
        whole + " ",
        whole.replace("=1", "=0").replace("$1000$", "$0$"),
    ):
        if broken != whole:
            with pytest.raises(BadHash) as refusal:
                passwords.require_verifiable(broken)
            assert whole[-20:-2] not in str(refusal.value)


def numbered(_hash: str) -> str:
    """Tests that run side by side must have the same names, and hashes are made anew each time."""
    return "hash"


@pytest.mark.parametrize(
    "never",
    [
        "",
        PASSWORD,
        "5f4dcc3b5aa765d61d8327deb882cf99",
        BCRYPT.replace("$2b$04", "$2x$04"),
        BCRYPT.replace("$04$", "$03$"),
        BCRYPT[:28] + "/" + BCRYPT[29:],
        ARGON2.replace("p=1", "p=16"),
        ARGON2.replace("p=1", "p=1,keyid=YWJj"),
        ARGON2.replace("p=1", "p=1,data=YWJj"),
        ARGON2.rpartition("$")[0] + "$YQ",
        ARGON2 + "A" * 512,
    ],
    ids=numbered,
)
def test_a_hash_that_can_never_be_verified_is_refused(never: str) -> None:
    with pytest.raises(BadHash):
        passwords.require_verifiable(never)


@pytest.mark.parametrize(
    "costly",
    [
        BCRYPT.replace("$04$", "$15$"),
        HASHES["bcrypt_sha256"].replace("r=4", "r=20"),
        HASHES["pbkdf2_sha256"].replace("$1000$", "$4000001$"),
        HASHES["pbkdf2_sha512"].replace("$1000$", "$4294967295$"),
        HASHES["scrypt"].replace("ln=4", "ln=19"),
        HASHES["scrypt"].replace("ln=4,r=8,p=1", "ln=17,r=8,p=9"),
        ARGON2.replace("m=64", "m=262145"),
        ARGON2.replace("t=1", "t=16385"),
        ARGON2.replace("m=64,t=1,p=1", "m=1024,t=1024,p=128"),
        ARGON2.replace("m=64,t=1,p=1", "m=1024,t=1,p=17"),
        ARGON2.replace("m=64,t=1,p=1", "m=1024,t=1024,p=16"),
        ARGON2.replace("m=64,t=1,p=1", "m=64,t=4000,p=8"),
        HASHES["scrypt"].replace("ln=4,r=8,p=1", "ln=1,r=8,p=1000000"),
        HASHES["scrypt"].replace("ln=4,r=8,p=1", "ln=1,r=4194304,p=1"),
        HASHES["scrypt"].replace("ln=4,r=8,p=1", "ln=16,r=8,p=8"),
    ],
    ids=numbered,
)
def test_a_hash_that_costs_too_much_time_or_memory_is_refused(costly: str) -> None:
    with pytest.raises(BadHash, match="costs too much"):
        passwords.require_verifiable(costly)


@pytest.mark.parametrize(
    "usual",
    [
        BCRYPT.replace("$04$", "$12$"),
        HASHES["pbkdf2_sha256"].replace("$1000$", "$1200000$"),
        HASHES["scrypt"].replace("ln=4", "ln=17"),
        ARGON2.replace("m=64,t=1,p=1", "m=102400,t=2,p=8"),
        ARGON2.replace("m=64,t=1,p=1", "m=65536,t=3,p=4"),
        ARGON2.replace("m=64,t=1,p=1", "m=262144,t=3,p=1"),
        HASHES["scrypt"].replace("ln=4,r=8,p=1", "ln=16,r=8,p=5"),
        HASHES["bcrypt_sha256"].replace("r=4", "r=13"),
    ],
    ids=numbered,
)
def test_hashes_with_the_default_costs_of_other_programs_are_accepted(usual: str) -> None:
    passwords.require_verifiable(usual)


def run(issuer: Issuer, monkeypatch: pytest.MonkeyPatch, text: str | bytes, *options: str) -> Result:
    """Run the command on a file with this text, with the settings of `issuer`."""
    monkeypatch.setenv("ISSUER_DATABASE_URL", issuer.settings.database_url.get_secret_value())
    file = Path("users.csv")
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return CliRunner().invoke(app, ["users", "import", str(file), *options])


def test_users_are_imported_with_password_scope_and_id(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    carol, zoe = f"carol,{BCRYPT},items:read items:write,{SUB}", f'zoë,"{ARGON2}",,'
    lines = f"username,password_hash,scope,id\n{carol}\n\n{zoe}\n"
    done = run(issuer, monkeypatch, "\ufeff" + lines.replace("\n", "\r\n"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"imported": 2, "users": 2, "dry_run": False}
    first, second = issuer.accounts.store.by_username("Carol"), issuer.accounts.store.by_username("zoë")
    assert first
    assert second
    assert (first.id, first.scope) == (SUB, {"items:read", "items:write"})
    assert second.scope == frozenset()
    assert passwords.verify(PASSWORD, first.password_hash)


def test_all_invalid_lines_are_reported_and_no_user_is_imported(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.accounts.registration.register("alice", PASSWORD, Origin("a test", "198.18.0.1"), START)
    lines = [
        f"carol,{BCRYPT},",
        f"Alice,{BCRYPT},",
        f"CAROL,{BCRYPT},",
        f"dave,{BCRYPT},a\\b",
        f"erin,{BCRYPT[:-1]},",
        f"frank,{BCRYPT}",
        f"two words,{BCRYPT},",
        f"grace,{BCRYPT},,{SUB}",
        f"heidi,{BCRYPT},,{SUB}",
        f"ivan,{BCRYPT},,{SUB.upper()}",
        f"kim,{ARGON2},",
        f'judy,"{BCRYPT}"x,',
    ]
    done = run(issuer, monkeypatch, "\n".join(lines), "--json")
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert [(fault["line"], fault["username"]) for fault in printed["faults"]] == [
        (2, "Alice"),
        (3, "CAROL"),
        (4, "dave"),
        (5, "erin"),
        (6, "frank"),
        (7, "two words"),
        (9, "heidi"),
        (10, "ivan"),
        (11, "kim"),
        (12, ""),
    ]
    assert "another account has this username" in printed["faults"][0]["wrong"]
    assert printed["faults"][1]["wrong"] == "line 1 has the same username"
    assert printed["faults"][6]["wrong"] == "line 8 has the same id"
    assert "double quotes" in printed["faults"][8]["wrong"]
    assert BCRYPT[10:40] not in done.output
    assert [user.username for user in issuer.accounts.store.all()[0]] == ["alice"]


def test_the_first_twenty_errors_are_printed_without_control_characters(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(issuer, monkeypatch, f"\x1b[2Jmallory,{BCRYPT},\n" * 23)
    assert isinstance(done.exception, CommandError)
    assert done.stderr.count("line ") == 20
    assert "and 3 more" in done.stderr
    assert "\x1b" not in done.output
    assert BCRYPT[10:40] not in done.output


def test_a_dry_run_creates_no_account(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(issuer, monkeypatch, f"carol,{BCRYPT},items:read\n", "--dry-run")
    assert done.exit_code == 0
    assert "accounts that would be made: 1\n" in done.stdout
    assert issuer.accounts.store.all()[0] == []


@pytest.mark.parametrize(
    ("names", "users"), [((), "0 users"), (("ann",), "1 user"), (("ann", "bob"), "2 users")]
)
def test_progress_names_the_number_of_users(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], users: str
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(user_import, "status", lambda _, as_json: nullcontext(shown.append))  # noqa: ARG005
    assert run(issuer, monkeypatch, "".join(f"{name},{BCRYPT},\n" for name in names)).exit_code == 0
    assert shown == [f"checking {users}", f"saving {users}"]


def test_a_file_that_is_not_utf_8_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(issuer, monkeypatch, b"caf\xe9," + BCRYPT.encode() + b",\n")
    assert "is not UTF-8" in str(done.exception)
    assert issuer.accounts.store.all()[0] == []


def test_users_are_imported_from_standard_input(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSUER_DATABASE_URL", issuer.settings.database_url.get_secret_value())
    done = CliRunner().invoke(app, ["users", "import", "-"], input=f"carol,{BCRYPT},\n")
    assert done.exit_code == 0, done
    assert issuer.accounts.store.by_username("carol")


def test_the_id_of_another_account_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(issuer, monkeypatch, f"carol,{BCRYPT},,{SUB}\n").exit_code == 0
    done = run(issuer, monkeypatch, f"dave,{BCRYPT},,{SUB}\n", "--json")
    assert [fault["wrong"] for fault in json.loads(done.stdout)["faults"]] == ["another account has this id"]


def test_a_user_and_a_client_never_have_the_same_id(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = register_client(
        issuer.clients.store, "machine", AuthMethod.BASIC, frozenset({"items:read"}), (), START
    )
    for option in ("--dry-run", "--json"):
        done = run(issuer, monkeypatch, f"carol,{BCRYPT},,{client.id}\n", option, "--json")
        assert done.exit_code == 1
        printed = [fault["wrong"] for fault in json.loads(done.stdout)["faults"]]
        assert printed == ["a client or a removed account has this id"]
    carol = User(client.id, "carol", BCRYPT, frozenset(), START)
    with pytest.raises(UsernameTaken):
        issuer.accounts.store.add(carol)
    assert issuer.accounts.store.all()[0] == []
    assert run(issuer, monkeypatch, f"carol,{BCRYPT},,{SUB}\n").exit_code == 0
    with pytest.raises(Refused, match="identifier"):
        issuer.clients.store.add(replace(client, id=SUB))
    assert [each.id for each in issuer.clients.store.all()[0]] == [client.id]
