"""Commands reject values that can never work, and print no control characters for the terminal."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import PASSPHRASE, Done, Installation

PASSWORD = "violet otters juggle pancakes"


def one_line(done: Done, code: int) -> str:
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    return done.err


@pytest.fixture(scope="module")
def site(initialized_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that nothing here changes for the next test."""
    folder = shutil.copytree(initialized_folder, tmp_path_factory.mktemp("operator") / "site")
    with Installation(folder, ISSUER_KEYS_PASSPHRASE=PASSPHRASE) as site:
        yield site


# Values that never work

CLIENTS = [
    (["--audience", ""], "absolute URI"),
    (["--audience", "notaurl"], "absolute URI"),
    (["--audience", "https://a.example#x"], "fragment"),
    (["--audience", "https://a b"], "absolute URI"),
    (["--audience", " https://a"], "absolute URI"),
    (["--audience", "https://a "], "absolute URI"),
    (["--audience", "https://good.example", "--audience", "/bad"], "'/bad'"),
    (["--audience", "localhost:8001"], "absolute URI"),
    (["--audience", "https://user:secret@a.example"], "password"),
    (["--scope", 'a"b'], "scope"),
    (["--scope", "é"], "scope"),
    (["--scope", "a" * 3000], "at most"),
    (["--auth", "none", "--jwks-uri", "https://a"], "private_key_jwt"),
    (["--auth", "private_key_jwt", "--jwks-uri", "https://a b"], "https URL"),
    (["--auth", "private_key_jwt", "--jwks-uri", "notaurl"], "https URL"),
]


def test_a_client_gets_no_value_that_never_works(site: Installation) -> None:
    for options, says in CLIENTS:
        assert says in one_line(site.command("clients", "add", "a client", *options), 2)


def test_a_client_that_nobody_can_sign_in_to_is_said_to_be_one(site: Installation) -> None:
    assert "--redirect-uri" in site.command("clients", "add", "an app", "--auth", "none").out


@pytest.mark.parametrize("name", ["", "   ", "x" * 201])
def test_a_client_has_a_name_that_can_be_shown(site: Installation, name: str) -> None:
    assert "name" in one_line(site.command("clients", "add", name), 2)


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\u202eb", "a\nb", "a\u2066b"])
def test_no_argument_contains_control_characters(site: Installation, name: str) -> None:
    for command in (["clients", "add", name], ["users", "disable", name], ["clients", "disable", name]):
        assert "control characters" in one_line(site.command(*command), 2)
    assert "control characters" in one_line(site.command("keys", "rotate", "--force", "--reason", name), 2)


def test_blanks_around_a_value_are_no_part_of_it(site: Installation) -> None:
    options = ("--audience", "https://a.example", "--audience", "https://a.example", "--scope", " a  b ")
    made = site.command("clients", "add", "  spaced  ", *options, "--json").document
    assert (made["name"], made["audiences"], made["scope"]) == ("spaced", "https://a.example", "a b")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["users", "add", "", "--password-stdin"], 2),
        (["users", "add", "two words", "--password-stdin"], 2),
        (["users", "add", "x" * 65, "--password-stdin"], 2),
        (["users", "add", "bob", "--scope", "é", "--password-stdin"], 2),
        (["users", "grant", "bob", "--scope", "b" * 3000], 2),
        (["users", "disable", ""], 1),
        (["clients", "add", "x", "--auth", "private_key_jwt", "--jwks", "/dev/zero"], 1),
        (["clients", "add", "x", "--auth", "private_key_jwt", "--jwks", "."], 1),
        (["clients", "disable", ""], 1),
        (["clients", "rotate-secret", "x", "--overlap", "soon"], 2),
        (["clients", "rotate-secret", "x", "--overlap", ""], 2),
        (["keys", "revoke", "", "--reason", "a test", "--yes"], 2),
        (["keys", "revoke", "abc", "--reason", "  ", "--yes"], 2),
        (["keys", "rotate", "--force", "--reason", "x" * 501], 2),
        (["keys", "import", "/dev/zero"], 1),
        (["keys", "import", "/nonexistent"], 1),
        (["keys", "rewrap", "--new-passphrase-file", "/nonexistent"], 1),
        (["users", "import", "/nonexistent"], 1),
        (["users", "import", "."], 1),
        (["move", "--to-file", "/nonexistent"], 1),
        (["audit", "verify", "--noted", "junk"], 2),
        (["audit", "list", "--last", "0"], 2),
        (["serve", "--host", ""], 2),
        (["serve", "--host", "nonsense.invalid"], 1),
    ],
)
def test_meaningless_values_are_refused(site: Installation, arguments: list[str], code: int) -> None:
    one_line(site.command(*arguments, stdin=PASSWORD), code)


# What a terminal would obey

EVIL = "\x1b[2J\x1b]0;title\x07 [red]x[/red] [bold :key: \u202egnp.exe \x9b1m\\"


def test_nothing_from_the_database_is_obeyed_by_a_terminal(initialized: Installation) -> None:
    initialized.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    client_id = initialized.command("clients", "add", "machine", "--json").document["client_id"]
    initialized.command("keys", "rotate", "--force", "--reason", "a test")
    with sqlite3.connect(initialized.folder / "issuer.db") as database:
        for (trigger,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {trigger}")  # who can write the whole database can do that, too
        database.execute("UPDATE users SET username = ?", (EVIL,))
        database.execute("UPDATE clients SET name = ?, audiences = ?", (EVIL, f'["{EVIL[20:40]}"]'))
        database.execute("UPDATE audit SET actor = ?, reason = ?", (EVIL, EVIL))
        database.execute("UPDATE heartbeats SET name = ?", (EVIL,))
    database.close()
    shown = [
        initialized.command(*command)
        for command in (
            ["users", "list"], ["clients", "list"], ["clients", "disable", client_id], ["audit", "list"],
            ["audit", "verify"], ["keys", "nodes"], ["keys", "rollback", "--dry-run"], ["check"],
            ["clients", "rotate-secret", client_id, "--overlap", "0"],
        )
    ]  # fmt: skip
    for done in shown:
        said = done.out + done.err
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(said), said
        assert "Traceback" not in said
    for listed in shown[:2]:
        assert "[red]x[/red] [bold :key:" in " ".join(listed.out.split())
    as_json = initialized.command("users", "list", "--json")
    assert as_json.document["users"][0]["username"] == EVIL
    assert as_json.out.isascii()
