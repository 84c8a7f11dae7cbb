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


def noted(founded: Installation, url: str) -> str:
    """Write the URL, with a password that the server of the tests asks for as little as for any, into a file."""
    file = founded.folder / "new-database-url"
    file.write_text(url.replace("issuer@", f"issuer:{SECRET}@") + "\n")
    return str(file)


def refreshed(founded: Installation, refresh_token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": refresh_token}
    return founded.http.post(f"{founded.url}/oauth2/token", data=form)


def log_in(founded: Installation) -> tuple[str, str]:
    """Make an account, and return the access and the refresh token of its first log-in."""
    made = founded.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    assert made.code == 0, made
    answer = founded.log_in("alice", PASSWORD)
    return access_token(answer), answer.json()["refresh_token"]


def test_tokens_sessions_and_keys_live_on_in_postgresql(founded: Installation, postgresql: str) -> None:
    file = noted(founded, new_database(postgresql))
    server = founded.serve().until_ready()
    token, refresh_token = log_in(founded)
    key_set = founded.key_set()

    early = founded.command("move", "--to-file", file)
    assert early.code == 3
    assert "stop all processes that use" in early.err
    assert f"/{server.worker_pids[0]}" in early.err
    server.stop()
    moved = founded.command("move", "--to-file", file)
    assert moved.code == 0, moved
    assert re.search(
        r"^ISSUER_DATABASE_URL=.?postgresql://.*\nISSUER_KEYS=database$", moved.out, re.MULTILINE
    )
    assert SECRET not in moved.out + moved.err

    old = founded.serve()
    assert old.process.wait(PATIENCE_SECONDS) != 0
    assert "issuer move --back" in old.output
    assert "Traceback" not in old.output
    assert founded.command("check").out.count("was moved to postgresql://issuer:***@") == 1

    founded.settings |= {
        "ISSUER_DATABASE_URL": (founded.folder / "new-database-url").read_text().strip(),
        "ISSUER_KEYS": "database",
    }
    founded.serve().until_ready()
    assert founded.key_set().content == key_set.content
    founded.require_verifies(token, founded.key_set())
    again = refreshed(founded, refresh_token)
    founded.require_verifies(access_token(again), key_set)
    assert refreshed(founded, again.json()["refresh_token"]).is_success
    assert founded.log_in("alice", PASSWORD).is_success
    for proof in (("audit", "verify"), ("keys", "verify")):
        assert founded.command(*proof).code == 0
    assert founded.command("audit", "list", "--json").document["entries"][-1]["action"] == "moved"


def test_a_move_can_be_taken_back(founded: Installation) -> None:
    (founded.folder / "new").mkdir()
    (founded.folder / "url").write_text("sqlite:///new/issuer.db")
    kids = founded.saved_kids()
    document = founded.command("move", "--to-file", "url", "--json").document
    assert (document["moved"], document["private_keys"]) == (True, 2)
    assert founded.command("keys", "list").code == 1
    assert founded.command("move", "--back").code == 0
    assert founded.command("move", "--back").code == 4
    founded.serve().until_ready()
    assert {key["kid"] for key in founded.key_set().json()["keys"]} == kids


def test_a_move_that_is_killed_leaves_nothing_in_the_new_database(
    founded: Installation, postgresql: str
) -> None:
    url = new_database(postgresql)
    file = noted(founded, url)
    with closing(Database(url)) as new:
        new.migrate()
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
        move = subprocess.Popen(
            [sys.executable, "-m", "issuer.cli", "move", "--to-file", file],
            cwd=founded.folder,
            env=founded._environment({}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass"
        eventually(lambda: connection.execute(waits).fetchone() == (1,), "it copies")
        move.kill()
        move.wait()
    again = founded.command("move", "--to-file", file)
    assert "if the move was interrupted: issuer move --back" in again.err
    assert founded.command("move", "--back").code == 0
    done = founded.command("move", "--to-file", file, "--json")
    assert done.code == 0, done
    assert done.document["private_keys"] == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mysql://root@127.0.0.1/issuer", "the URL of the new database names mysql"),
        (f"postgresql://issuer:{SECRET}@127.0.0.1:1/issuer", "cannot be used"),
        ("sqlite:///issuer.db", "is the current database already"),
        ("", "is not a database URL"),
    ],
)
def test_an_unusable_url_is_reported_without_its_password(
    founded: Installation, text: str, told: str
) -> None:
    (founded.folder / "url").write_text(text)
    done = founded.command("move", "--to-file", "url")
    assert done.code in {1, 3}
    assert told in done.err
    assert SECRET not in done.out + done.err
    assert "Traceback" not in done.err
    assert founded.command("move").err.startswith("failed: no terminal")
    assert founded.command("keys", "list").code == 0
