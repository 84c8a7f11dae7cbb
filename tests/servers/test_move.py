"""A move of everything from files into a real PostgreSQL: for clients, requests only take longer.

What prevents a move, and what arrives of each table, is tested in `maintenance.test_move`.
"""

import re
import subprocess
import sys
from contextlib import closing

import httpx2
import psycopg
import pytest
from support.postgresql import new_database
from support.servers import PATIENCE_SECONDS, Installation, access_token, eventually

from issuer.database.database import Database

PASSWORD = "violet otters juggle pancakes"
SECRET = "a-password-of-the-database"


def noted(initialized: Installation, url: str) -> str:
    """Write the URL, with a password that the server of the tests asks for as little as for any, into a file."""
    file = initialized.folder / "new-database-url"
    file.write_text(url.replace("issuer@", f"issuer:{SECRET}@") + "\n")
    return str(file)


def refreshed(initialized: Installation, refresh_token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": refresh_token}
    return initialized.http.post(f"{initialized.url}/oauth2/token", data=form)


def log_in(initialized: Installation) -> tuple[str, str]:
    """Make an account, and return the access and the refresh token of its first log-in."""
    made = initialized.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    assert made.code == 0, made
    answer = initialized.log_in("alice", PASSWORD)
    return access_token(answer), answer.json()["refresh_token"]


def test_tokens_sessions_and_keys_stay_valid_in_postgresql(
    initialized: Installation, postgresql: str
) -> None:
    file = noted(initialized, new_database(postgresql))
    server = initialized.serve().until_ready()
    token, refresh_token = log_in(initialized)
    key_set = initialized.key_set()

    early = initialized.command("move", "--to-file", file)
    assert early.code == 3
    assert "stop all processes that use" in early.err
    assert f"/{server.worker_pids[0]}" in early.err
    server.stop()
    moved = initialized.command("move", "--to-file", file)
    assert moved.code == 0, moved
    assert re.search(
        r"^ISSUER_DATABASE_URL=.?postgresql://.*\nISSUER_KEYS=database$", moved.out, re.MULTILINE
    )
    assert SECRET not in moved.out + moved.err

    old = initialized.serve()
    assert old.process.wait(PATIENCE_SECONDS) != 0
    assert "issuer move --back" in old.output
    assert "Traceback" not in old.output
    assert initialized.command("check").out.count("was moved to postgresql://issuer:***@") == 1

    initialized.settings |= {
        "ISSUER_DATABASE_URL": (initialized.folder / "new-database-url").read_text().strip(),
        "ISSUER_KEYS": "database",
    }
    initialized.serve().until_ready()
    assert initialized.key_set().content == key_set.content
    initialized.require_verifies(token, initialized.key_set())
    again = refreshed(initialized, refresh_token)
    initialized.require_verifies(access_token(again), key_set)
    assert refreshed(initialized, again.json()["refresh_token"]).is_success
    assert initialized.log_in("alice", PASSWORD).is_success
    for proof in (("audit", "verify"), ("keys", "verify")):
        assert initialized.command(*proof).code == 0
    entries = initialized.command("audit", "list", "--json").document["entries"]
    assert [each["action"] for each in entries if each["log"] == "keys"][-1] == "moved"


def test_a_move_can_be_taken_back(initialized: Installation) -> None:
    (initialized.folder / "new").mkdir()
    (initialized.folder / "url").write_text("sqlite:///new/issuer.db")
    kids = initialized.saved_kids()
    document = initialized.command("move", "--to-file", "url", "--json").document
    assert (document["moved"], document["private_keys"]) == (True, 2)
    assert initialized.command("keys", "list").code == 1
    assert initialized.command("move", "--back").code == 0
    assert initialized.command("move", "--back").code == 4
    initialized.serve().until_ready()
    assert {key["kid"] for key in initialized.key_set().json()["keys"]} == kids


def test_a_move_that_is_killed_leaves_nothing_in_the_new_database(
    initialized: Installation, postgresql: str
) -> None:
    url = new_database(postgresql)
    file = noted(initialized, url)
    with closing(Database(url)) as new:
        new.migrate()
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
        move = subprocess.Popen(
            [sys.executable, "-m", "issuer.cli", "move", "--to-file", file],
            cwd=initialized.folder,
            env=initialized._environment({}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass"
        eventually(lambda: connection.execute(waits).fetchone() == (1,), "it copies")
        move.kill()
        move.wait()
    again = initialized.command("move", "--to-file", file)
    assert "if the move was interrupted: issuer move --back" in again.err
    assert initialized.command("move", "--back").code == 0
    done = initialized.command("move", "--to-file", file, "--json")
    assert done.code == 0, done
    assert done.document["private_keys"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mysql://root@127.0.0.1/issuer", "the URL of the new database names mysql"),
        (f"postgresql://issuer:{SECRET}@127.0.0.1:1/issuer", "cannot be used"),
        ("sqlite:///issuer.db", "is the current database already"),
        ("", "is not a database URL"),
    ],
)
def test_an_unusable_url_is_reported_without_its_password(
    initialized: Installation, text: str, expected: str
) -> None:
    (initialized.folder / "url").write_text(text)
    done = initialized.command("move", "--to-file", "url")
    assert done.code in {1, 3}
    assert expected in done.err
    assert SECRET not in done.out + done.err
    assert "Traceback" not in done.err
    assert initialized.command("move").err.startswith("failed: no terminal")
    assert initialized.command("keys", "list").code == 0
